defmodule Codex.Sessions.ManyTest do
  # A home with many small files: nothing is lost, and results are read lazily.
  use ExUnit.Case, async: true

  alias Codex.{JSON, Sessions}

  @moduletag :tmp_dir

  # `FILES=100000` makes the home of a heavy user.
  @files String.to_integer(System.get_env("FILES", "5000"))

  defp id(n), do: "01a21974-8f0c-7940-b1d5-" <> String.pad_leading("#{n}", 12, "0")

  defp line(type, payload) do
    time = "2026-11-26T20:03:18.000Z"
    [~s({"timestamp":"#{time}","type":"#{type}","payload":), JSON.encode!(payload), "}\n"]
  end

  defp rollout(n) do
    tokens = %{input_tokens: n, cached_input_tokens: 0, output_tokens: 1}
    info = %{total_token_usage: tokens, last_token_usage: tokens}

    [
      line("session_meta", %{id: id(n), timestamp: "2026-11-26T20:03:18.000Z", cwd: "/w"}),
      line("event_msg", %{type: "user_message", message: "prompt #{n}"}),
      line("event_msg", %{type: "token_count", info: info})
    ]
  end

  defp folder(home, n),
    do: Path.join(home, "sessions/2026/11/" <> String.pad_leading("#{rem(n, 28) + 1}", 2, "0"))

  setup %{tmp_dir: home} do
    for n <- 0..27, do: File.mkdir_p!(folder(home, n))

    for n <- 1..@files do
      day = Path.basename(folder(home, n))
      name = "rollout-2026-11-#{day}T20-03-18-#{id(n)}.jsonl"
      File.write!(Path.join(folder(home, n), name), rollout(n), [:raw])
    end

    %{opts: [codex_home: home]}
  end

  test "all files are listed, found and counted", %{opts: opts} do
    {:ok, usage} = Sessions.usage(opts)
    assert usage.calls == @files
    assert usage.usage["input_tokens"] == div(@files * (@files + 1), 2)

    {:ok, session} = Sessions.find(id(@files), opts)
    assert session.title == "prompt #{@files}"
    assert {:error, {:ambiguous_session, _, ids}} = Sessions.find("01a21974", opts)
    assert length(ids) == @files

    {:ok, page} = Sessions.list([limit: 10] ++ opts)
    assert length(page.sessions) == 10 and page.problems == []
    {:ok, all} = Sessions.list([limit: @files] ++ opts)
    assert length(Enum.uniq_by(all.sessions, & &1.id)) == @files
    assert all.next == nil
  end
end
