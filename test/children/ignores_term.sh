#!/bin/sh
# Only SIGKILL ends this program: it does not read stdin and ignores all other signals.
trap '' HUP INT QUIT TERM
echo $$
while :; do sleep 100000; done
