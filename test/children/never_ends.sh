#!/bin/sh
# Runs until it is killed. Says its pid first.
echo $$
exec sleep 100000
