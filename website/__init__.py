"""The documentation site: reference pages made from the code, checks of links, and the build."""
