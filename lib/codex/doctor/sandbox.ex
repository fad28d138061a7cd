defmodule Codex.Doctor.Sandbox do
  @moduledoc false
  # Checks the CLI's sandbox by running a command in it: kernels, containers and AppArmor decide,
  # and no other sign is as reliable.

  alias Codex.CLI.Command
  alias Codex.Config
  alias Codex.Doctor.Context
  alias Codex.Error.Redact
  alias Codex.{FileSystem, Home}

  # The limits of the quoted output: its last lines, and the characters of a line.
  @lines 5
  @length 300
  # Redacting shorter values would remove ordinary words.
  @shortest 6

  def sandbox(%{auth: %{config: config}} = context) do
    if Config.get(config, "sandbox_mode") == "danger-full-access",
      do: {:skipped, "sandbox_mode is \"danger-full-access\": commands run without one"},
      else: context |> probe() |> outcome(context, requested(config))
  end

  # The configuration key that asks for a sandbox by name, or nil.
  defp requested(config) do
    Enum.find(["sandbox_mode", "default_permissions"], &is_binary(Config.get(config, &1)))
  end

  defp probe(context) do
    opts = [cwd: context.directory, timeout: context.timeout, most: 65_536]
    Command.run([context.program, "sandbox", "--", "true"], env(context) ++ opts)
  end

  # Without :clear_env the child gets the environment of the VM, without the variables of a release.
  defp env(%{env: nil} = context), do: [env: %{"CODEX_HOME" => context.home}]
  defp env(context), do: [env: Map.put(context.env, "CODEX_HOME", context.home), clear_env: true]

  defp outcome({:ok, %{exit: %{status: 0}}}, _context, _key),
    do: {:ok, "commands can be run in it"}

  defp outcome(failure, context, key) do
    details = failure |> failure_lines(context) |> Enum.map(&%{text: &1})
    status = if key, do: :error, else: :warning
    why = if key, do: ", which #{key} asks for", else: ""
    {status, "commands cannot be run in it#{why}: each would fail", details}
  end

  defp failure_lines({:ok, ended}, context) do
    output =
      (ended.stderr <> ended.stdout)
      |> Command.text()
      |> Redact.redact(secrets(context))
      |> String.split("\n", trim: true)
      |> Enum.reject(&noise?/1)
      |> Enum.take(-@lines)
      |> Enum.map(&String.slice(&1, 0, @length))

    [ended(ended.exit) | output]
  end

  defp failure_lines({:error, {:timeout, ms}}, _context),
    do: ["`codex sandbox -- true` took longer than #{ms} ms"]

  defp failure_lines({:error, {:too_long, bytes}}, _context),
    do: ["`codex sandbox -- true` wrote over #{bytes} bytes"]

  defp failure_lines({:error, {kind, error}}, _context) when kind in [:not_started, :lost],
    do: ["`codex sandbox -- true`: #{Exception.message(error)}"]

  defp ended(%{status: nil, signal: signal}),
    do: "`codex sandbox -- true` was ended by signal #{signal}"

  defp ended(%{status: status}), do: "`codex sandbox -- true` ended with status #{status}:"

  # The check of the home reports a temporary directory. Excerpts of files may hold secrets.
  defp noise?(line), do: line =~ ~r/^WARNING: proceeding, even though|^\s*\d*\s*\|/

  # The texts that no output of the CLI may show: those of the configuration and of auth.json,
  # except directories, and the values of variables whose names sound like secrets or proxies.
  defp secrets(context) do
    config = for layer <- Config.layers(context.auth.config), do: texts(layer.config)
    kept = [login(context.home) | config] |> List.flatten() |> not_directories()
    env = Context.env(context)
    proxies = for {name, value} <- env, name =~ ~r/proxy/i, do: value

    (Redact.secrets(env) ++ proxies ++ kept)
    |> Enum.filter(&(byte_size(&1) >= @shortest))
    |> Enum.uniq()
    |> Enum.sort_by(&(-byte_size(&1)))
  end

  defp not_directories(texts) do
    for {text, stat} <- Enum.zip(texts, FileSystem.stat_all(texts)),
        not match?({:ok, %{kind: :directory}}, stat),
        do: text
  end

  defp login(home) do
    with {:ok, text} <- FileSystem.read(Home.path(home, :auth)),
         {:ok, document} <- Codex.JSON.decode(text),
         do: texts(document),
         else: (_none -> [])
  end

  defp texts(%{} = table), do: for({_key, value} <- table, do: texts(value))
  defp texts(list) when is_list(list), do: Enum.map(list, &texts/1)
  defp texts(text) when is_binary(text), do: [text]
  defp texts(_other), do: []
end
