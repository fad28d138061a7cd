defmodule Codex.Stub do
  @moduledoc "Programs that stand in for `codex`, each misbehaving in one way, and looking at what still runs."

  @started ~s({"type":"thread.started","thread_id":"01a1f6cd-7e5b-7451-8c66-48b5fcaa07af"})
  @message ~s({"type":"item.completed","item":{"id":"item_0","type":"agent_message","text":"Hello"}})
  @completed ~s({"type":"turn.completed","usage":{"input_tokens":100,"output_tokens":20}})

  @doc "A shell script that prints what `body` says; `$started`, `$turn` and `$message` hold lines of a real stream."
  def write!(dir, body) do
    path = Path.join(dir, "codex-#{System.unique_integer([:positive])}")

    File.write!(path, """
    #!/bin/sh
    if [ "$1" = --version ]; then echo "codex-cli #{Codex.CLI.Program.tested_version()}"; exit 0; fi
    started='#{@started}'
    message='#{@message}'
    completed='#{@completed}'
    turn="$started
    $message
    $completed"
    #{body}
    """)

    File.chmod!(path, 0o755)
    path
  end

  @doc """
  A script that meets a rate limit at its tenth prompt, for so many seconds. Every prompt is noted
  with its time in ms. Prompts before the limit resets are refused.
  """
  def limited!(dir, seconds) do
    write!(dir, """
    prompt=$(cat)
    dir="$(dirname "$0")"
    now=$(date +%s%3N)
    echo "$now $prompt" >> "$dir/sent"
    echo "$started"
    n=$(wc -l < "$dir/sent")
    if [ "$n" -ge 10 ]; then
      # The first one says when the limit resets, and the others wait for it.
      if mkdir "$dir/limited" 2>/dev/null; then
        echo $((now + #{seconds}000)) > "$dir/next" && mv "$dir/next" "$dir/until"
      fi
      while ! [ -e "$dir/until" ]; do sleep 0.01; done
    fi
    if [ -e "$dir/until" ] && [ "$now" -lt "$(cat "$dir/until")" ]; then
      error='"message":"rate limit exceeded: try again in #{seconds}.2s."'
      echo '{"type":"turn.failed","error":{'"$error"'}}'
      exit 1
    fi
    item='"id":"0","type":"agent_message","text":"'"$prompt"'"'
    echo '{"type":"item.completed","item":{'"$item"'}}'
    echo "$completed"
    """)
  end

  @doc "The prompts of such a script, each with its time in ms."
  def sent(dir) do
    for line <- dir |> Path.join("sent") |> File.read!() |> String.split("\n", trim: true) do
      [ms, prompt] = String.split(line, " ", parts: 2)
      {String.to_integer(ms), prompt}
    end
  end

  @doc "A thread that runs such a script."
  def thread(dir, body, opts \\ []) do
    {:ok, thread} = Codex.start_thread([codex_path: write!(dir, body)] ++ opts)
    thread
  end

  @doc "Whether a process runs. A zombie does not."
  def alive?(os_pid) do
    case System.cmd("ps", ["-o", "stat=", "-p", to_string(os_pid)]) do
      {"Z" <> _, _} -> false
      {_, 0} -> true
      {_, _} -> false
    end
  end

  @doc "Command lines of running processes that contain `text`."
  def running(text) do
    {list, 0} = System.cmd("ps", ["-eww", "-o", "stat=,args="])

    for line <- String.split(list, "\n"),
        line =~ text,
        not String.starts_with?(line, "Z"),
        do: line
  end

  @doc "Waits until `fun` is true; says what it last was when that takes more than `timeout` ms."
  def eventually(fun, timeout \\ 30_000) do
    deadline = System.monotonic_time(:millisecond) + timeout
    poll(fun, deadline)
  end

  defp poll(fun, deadline) do
    cond do
      fun.() -> true
      System.monotonic_time(:millisecond) > deadline -> false
      true -> Process.sleep(10) && poll(fun, deadline)
    end
  end
end
