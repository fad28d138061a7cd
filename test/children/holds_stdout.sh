#!/bin/sh
# Ends at once, but leaves a process in another session that holds stdout and stderr open. Says its pid.
perl -MPOSIX=setsid -e '
  $| = 1;
  exit if fork;
  setsid();
  print "$$\n";
  exec "sleep", "100000";
'
