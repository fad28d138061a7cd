#!/bin/sh
# Closes stdout and lives until its stdin ends.
exec 1>&-
cat >/dev/null
exit 7
