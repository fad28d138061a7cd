#!/bin/sh
# Stands in for codex: reads the prompt, prints the file BENCH_STREAM BENCH_TIMES times, ends the turn.
if [ "$1" = "--version" ]; then
  echo "codex-cli 0.169.0"
  exit
fi
cat >/dev/null
echo '{"type":"thread.started","thread_id":"01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"}'
i=0
while [ "$i" -lt "${BENCH_TIMES:-1}" ]; do
  cat "$BENCH_STREAM"
  i=$((i + 1))
done
echo '{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":40,"cache_write_input_tokens":0,"output_tokens":20,"reasoning_output_tokens":5}}'
