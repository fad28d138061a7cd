#!/bin/sh
# Only SIGKILL ends it: it does not read stdin and ignores what can be ignored.
trap '' HUP INT QUIT TERM
echo $$
while :; do sleep 100000; done
