#!/bin/sh
# Ends at once, but leaves a process in another session that holds stdout and stderr open. Says its pid.
perl -MPOSIX=setsid -e '
  $| = 1;
  pipe(R, W);
  if (fork) { close W; <R>; exit; }
  setsid();
  print "$$\n";
  close W;
  exec "sleep", "100000";
'
