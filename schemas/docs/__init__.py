"""Documents derived from the types: JSON Schema, AsyncAPI, Markdown."""
