#!/bin/sh
# Writes $1 bytes to stderr and a last line, then ends. Says nothing on stdout.
head -c "$1" /dev/zero >&2
echo 'the end' >&2
