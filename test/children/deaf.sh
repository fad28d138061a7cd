#!/bin/sh
# Closes its stdin before it has read anything, says so, and lives on.
exec 0<&-
echo closed
exec sleep 100000
