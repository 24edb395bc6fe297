"""Keep media items like the libraries of applications."""
