"""Commands of the command line, one in each file: a function that is called as the file is."""
