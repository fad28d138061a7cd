#!/bin/sh
# Ends in the middle of a line.
printf 'one line\nhalf a li'
exit 3
