"""The newest download clients: a Debian sid root, its programs, and the tests of them."""
