#!/bin/sh
# Ends with status 5 at the first SIGINT.
trap 'exit 5' INT
echo ready
while :; do sleep 1; done
