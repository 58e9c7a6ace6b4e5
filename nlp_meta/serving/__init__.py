"""Serving: adapted models of many domains over one encoder, in Python and over HTTP."""
