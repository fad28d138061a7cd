#!/bin/sh
# Stands in for codex: reads a prompt of one line and prints the events of a turn with one message.
if [ "$1" = "--version" ]; then
  echo "codex-cli 0.169.0"
  exit
fi
read -r _
echo '{"type":"thread.started","thread_id":"01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"}'
echo '{"type":"turn.started"}'
echo '{"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"Hello world"}}'
echo '{"type":"turn.completed","usage":{"input_tokens":100,"cached_input_tokens":40,"cache_write_input_tokens":0,"output_tokens":20,"reasoning_output_tokens":5}}'
