#!/bin/sh
# An MCP server over stdio: a tool that echoes, one that fails, one that says it destroys, one that asks the user for a name, and a
# text to read. What the client sends is one line of JSON each, with its id before its parameters.
while IFS= read -r line; do
  id=${line#*\"id\":}
  id=${id%%[,\}]*}
  case $line in
    *'"method":"initialize"'*)
      result='{"protocolVersion":"2025-06-18","capabilities":{"tools":{},"resources":{}},"serverInfo":{"name":"tiny","version":"1"}}' ;;
    *'"method":"tools/list"'*)
      result='{"tools":[{"name":"echo","inputSchema":{"type":"object","properties":{"text":{"type":"string"}}}},{"name":"fail","inputSchema":{"type":"object"}},{"name":"write","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":false,"destructiveHint":true}},{"name":"ask","inputSchema":{"type":"object"},"annotations":{"readOnlyHint":true}}]}' ;;
    *'"method":"resources/list"'*)
      result='{"resources":[{"uri":"memo://one","name":"one"}]}' ;;
    *'"method":"resources/templates/list"'*)
      result='{"resourceTemplates":[]}' ;;
    *'"method":"resources/read"'*)
      result='{"contents":[{"uri":"memo://one","mimeType":"text/plain","text":"a memo"}]}' ;;
    *'"method":"tools/call"'*'"name":"echo"'*)
      text=${line#*\"text\":\"}
      result='{"content":[{"type":"text","text":"echo: '${text%%\"*}'"}]}' ;;
    *'"method":"tools/call"'*'"name":"write"'*)
      result='{"content":[{"type":"text","text":"wrote"}]}' ;;
    *'"method":"tools/call"'*'"name":"ask"'*)
      printf '{"jsonrpc":"2.0","id":"e","method":"elicitation/create","params":{"message":"Your name?","requestedSchema":{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}}}\n'
      IFS= read -r answer
      action=${answer#*\"action\":\"}
      name=${answer#*\"name\":\"}
      result='{"content":[{"type":"text","text":"'${action%%\"*}' '${name%%\"*}'"}]}' ;;
    *'"method":"tools/call"'*)
      result='{"content":[{"type":"text","text":"it did not work"}],"isError":true}' ;;
    *'"id":'*)
      result='{}' ;;
    *)
      continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$result"
done
