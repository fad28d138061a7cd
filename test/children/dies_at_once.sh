#!/bin/sh
# Ends before it has read anything.
exit 4
