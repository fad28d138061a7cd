#!/bin/sh
# Writes $1 bytes to stdout and as many to stderr, one at a time.
exec perl -e 'for (1 .. $ARGV[0]) { syswrite STDOUT, "o"; syswrite STDERR, "e" }' "$1"
