defmodule Codex.Hooks.Config do
  @moduledoc false
  # The configuration that makes the CLI call a tool of the host's MCP server for events: one hook
  # an event, and the hash by which the CLI trusts exactly this hook. Pure.
  #
  # The hash is that of `codex-rs/hooks`: SHA-256 over compact JSON with sorted keys, of event and
  # handler with all defaults. `hooks/list` of an app-server returns the same as `currentHash`.

  alias Codex.Hooks.Table
  alias Codex.Options.Overrides

  # No host tool can have this name, and the server does not list it.
  @tool "codex_sdk.hook"

  # The CLI takes overrides and the configuration of a thread for a file with this name.
  @source "/<session-flags>/config.toml"

  # The longest limit of `interrupt`.
  @interrupt_s 3

  @typedoc "How long the CLI waits for an event's answer, in seconds."
  @type timeouts :: %{Table.name() => pos_integer()}

  @spec tool() :: String.t()
  def tool, do: @tool

  @doc """
  Returns the overrides for these events, to be added to `others`, and the keys of the hooks in
  `hooks/list`. Hooks that `others` define stay, and ours are behind them.
  """
  @spec overrides([Overrides.t()], String.t(), timeouts()) :: {[Overrides.t()], [String.t()]}
  def overrides(others, server, timeouts) do
    others = Enum.flat_map(others, &read/1)
    parts = for {name, seconds} <- Enum.sort(timeouts), do: event(name, server, seconds, others)
    {Enum.flat_map(parts, &elem(&1, 0)), Enum.map(parts, &elem(&1, 1))}
  end

  defp read({path, value}), do: [{path, value}]

  defp read(raw) when is_binary(raw) do
    case Overrides.read(raw) do
      :error -> []
      override -> [override]
    end
  end

  defp read(_file), do: []

  defp event(name, server, seconds, others) do
    wire = Table.row(name).wire
    handler = handler(name, server, seconds)
    groups = groups(others, wire)
    {:ok, group} = Overrides.value(%{"hooks" => [handler]})
    key = "#{@source}:#{name}:#{length(groups)}:0"

    {[
       {["hooks", wire], groups ++ [group]},
       {["hooks", "state", key, "trusted_hash"], hash(name, handler)}
     ], key}
  end

  # Later overrides replace a list.
  defp groups(others, wire) do
    Enum.reduce(others, [], fn
      {["hooks", ^wire], groups}, _before when is_list(groups) ->
        groups

      {["hooks"], {:table, members}}, before ->
        case List.keyfind(members, wire, 0) do
          {_wire, groups} when is_list(groups) -> groups
          _none -> before
        end

      _other, before ->
        before
    end)
  end

  defp handler(name, server, seconds) do
    fields = for {field, _doc} <- Table.row(name).fields, do: {"#{field}", "${#{field}}"}

    %{
      "type" => "mcp_tool",
      "server" => server,
      "tool" => @tool,
      "input" => Map.new([{"event", "#{name}"} | fields]),
      "timeout" => if(name == :interrupt, do: min(seconds, @interrupt_s), else: seconds)
    }
  end

  @doc "Returns the hash of a hook without a matcher."
  @spec hash(Table.name(), map()) :: String.t()
  def hash(name, handler) do
    text = IO.iodata_to_binary(sorted(%{"event_name" => "#{name}", "hooks" => [handler]}))
    "sha256:" <> (:sha256 |> :crypto.hash(text) |> Base.encode16(case: :lower))
  end

  defp sorted(%{} = map) do
    members = for {key, value} <- Enum.sort(map), do: [Codex.JSON.encode!(key), ?:, sorted(value)]
    [?{, Enum.intersperse(members, ?,), ?}]
  end

  defp sorted(list) when is_list(list),
    do: [?[, list |> Enum.map(&sorted/1) |> Enum.intersperse(?,), ?]]

  defp sorted(value), do: Codex.JSON.encode!(value)
end
