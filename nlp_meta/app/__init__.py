"""The app: from a table to labels, a model and its answers, on a page of this machine."""
