defmodule Codex.Exec.McpLog do
  @moduledoc false
  # Reads from stderr which MCP servers did not start. `codex exec` has no event for these, and is
  # silent unless the server is required. Its log has a line for each, at a level that is off by
  # default. So a run that may have MCP servers asks for that level, and keeps the lines out of the
  # text of errors.

  alias Codex.Auth.Rules
  alias Codex.{Events, Items, Text}
  alias Codex.Exec.Argv
  alias Codex.Options.Overrides

  @filter "codex_mcp::rmcp_client=warn"

  # Of a longer line, the rest is dropped.
  @longest 8_192

  @line ~r/ WARN (?:\S+: )*codex_mcp::rmcp_client: /
  @failed ~r/codex_mcp::rmcp_client: MCP server startup failed server_name="((?:[^"\\]|\\.)*)" error=(.*)/s

  defstruct rest: "", skip?: false

  @typedoc "The line that has not ended, and a flag that is set if it is too long."
  @type t :: %__MODULE__{rest: binary(), skip?: boolean()}

  @doc """
  Returns the command line with that level, and a log; nil if the configuration mentions no MCP
  server. The agent's commands keep the `RUST_LOG` that they would have.
  """
  @spec ask(Argv.t()) :: {Argv.t(), t() | nil}
  def ask(%Argv{argv: [program, "exec", "--json" | rest]} = args) do
    if mcp_servers?(args) do
      level = Argv.surroundings(args)[:env]["RUST_LOG"]
      asked = if level in [nil, ""], do: "error," <> @filter, else: level <> "," <> @filter
      {:ok, kept} = Overrides.toml(level || "")
      kept = ["--config", "shell_environment_policy.set.RUST_LOG=" <> kept]
      argv = [program, "exec", "--json"] ++ kept ++ rest
      {%{args | argv: argv, env: Map.put(args.env, "RUST_LOG", asked)}, %__MODULE__{}}
    else
      {args, nil}
    end
  end

  def ask(args), do: {args, nil}

  # The first attempt of a run knows already.
  defp mcp_servers?(%{mcp_servers?: nil} = args),
    do: Rules.mentions(Argv.home_surroundings(args)).mcp_servers?

  defp mcp_servers?(args), do: args.mcp_servers?

  @doc "Returns events for the servers that these bytes of stderr name."
  @spec feed(t() | nil, binary()) :: {[Events.t()], t() | nil}
  def feed(nil, _bytes), do: {[], nil}

  def feed(%{rest: rest} = log, bytes) do
    [last | lines] = (rest <> bytes) |> String.split("\n") |> Enum.reverse()
    {first, lines} = if lines == [], do: {[], []}, else: lines |> Enum.reverse() |> Enum.split(1)
    # The end of a line that was too long.
    lines = if log.skip?, do: lines, else: first ++ lines
    skip? = (log.skip? and first == []) or byte_size(last) > @longest
    events = Enum.flat_map(lines, &event/1)
    {events, %{log | rest: if(skip?, do: "", else: last), skip?: skip?}}
  end

  defp event(line) do
    with true <- line =~ @line, [_, name, why] <- Regex.run(@failed, line) do
      name = String.replace(name, ~r/\\(.)/s, "\\1")
      message = Text.utf8("MCP server #{name} did not start: #{why}")
      [%Events.ItemCompleted{item: %Items.Error{message: message}}]
    else
      _ -> []
    end
  end

  @doc "Returns a text of stderr without those lines."
  @spec strip(String.t(), t() | nil) :: String.t()
  def strip(text, nil), do: text

  def strip(text, _log),
    do: text |> String.split("\n") |> Enum.reject(&(&1 =~ @line)) |> Enum.join("\n")
end
