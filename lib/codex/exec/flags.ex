defmodule Codex.Exec.Flags do
  @moduledoc false
  # Sends each option to `codex exec` as flag, configuration override or variable. Pure; one pass
  # over the table of options.

  alias Codex.Bridge.Tools
  alias Codex.CLI.{Program, Since}
  alias Codex.Options.{Merge, Overrides, Sandbox, Table}
  alias Codex.Telemetry.Trace

  import Merge, only: [override: 2]

  # Linux allows 128 KiB in one argument; the rest of the argument is short.
  @max_argument 131_072 - 1_024

  defstruct flags: [], overrides: [], env: %{}

  @type t :: %__MODULE__{
          flags: [String.t()],
          overrides: [Codex.Options.Overrides.t() | {:file, [String.t()], String.t()}],
          env: %{String.t() => String.t()}
        }

  @doc "Returns how long one text may be in an argument, in bytes."
  def max_argument, do: @max_argument

  @doc "Returns how these settings are sent. An override of kind `:file` has the content of a file."
  @spec all(map()) :: {:ok, t()} | {:error, Codex.Reason.option()}
  def all(settings) do
    Enum.reduce_while(Table.rows(), {:ok, %__MODULE__{}}, fn row, {:ok, sent} ->
      value = settings[row.name]

      # Most options are not set.
      with true <- value not in [nil, row.default],
           [_ | _] = more <- reach(row.opts[:exec], value, row.name, settings) do
        {:cont, {:ok, add(sent, more)}}
      else
        {:error, reason} -> {:halt, {:error, reason}}
        _nothing -> {:cont, {:ok, sent}}
      end
    end)
  end

  @doc "Checks the options of a thread before its first turn."
  @spec check(Codex.Options.t(), Codex.Thread.Options.t()) ::
          :ok | {:error, Codex.Reason.option()}
  def check(client, thread) do
    with {:ok, settings} <- Merge.settings(client, thread, %{}),
         {:ok, sent} <- all(settings),
         do: sent |> overrides(settings) |> written()
  end

  defp written(overrides) do
    case overrides |> Enum.reject(&match?({:file, _, _}, &1)) |> Overrides.arguments() do
      {:ok, _arguments} -> :ok
      {:error, name} -> {:error, Overrides.invalid(name)}
    end
  end

  @doc "Returns all overrides, with secrets; later ones win."
  @spec overrides(t(), map()) :: [Overrides.t() | {:file, [String.t()], String.t()}]
  def overrides(sent, settings),
    do: settings.below ++ sent.overrides ++ settings.config ++ settings.config_overrides

  # The options whose flags only a part of the tested versions has.
  @since for row <- Table.rows(),
             {_kind, flag} when is_binary(flag) <- [row.opts[:exec]],
             version = Since.first(flag),
             version != nil,
             do: {row.name, version}

  @doc """
  Checks that the CLI has the flags of these settings. Its version is asked for only if a setting
  needs a certain version.
  """
  @spec check_version(map(), Path.t()) :: :ok | {:error, Codex.Reason.unsupported_cli()}
  def check_version(settings, program) do
    check_parts(
      for {name, version} <- @since,
          settings[name] not in [nil, false] do
        {inspect(name), version}
      end,
      program
    )
  end

  @doc "Checks that the CLI has these parts, each with the first version that has it."
  @spec check_parts([{String.t(), String.t()}], Path.t()) ::
          :ok | {:error, Codex.Reason.unsupported_cli()}
  def check_parts(parts, program) do
    with [_ | _] <- parts, {:ok, found} <- Program.known_version(program) do
      Since.check_parts(parts, found)
    else
      _unknown_or_nothing -> :ok
    end
  end

  # The options that `--remote` leaves to the client: those of the output. The CLI refuses all
  # others, as the agent is the server's.
  @with_remote [
    :remote,
    :remote_auth_token_env,
    :output_last_message,
    :color,
    :skip_git_repo_check
  ]
  @sends for row <- Table.rows(),
             row.name not in @with_remote,
             row.opts[:exec] not in [:host, :refused, :resume_all, :trace],
             not match?({how, _} when how in [:env, :always], row.opts[:exec]),
             do: {row.name, row.default}

  @doc "Checks that settings and thread go with `remote`."
  @spec check_remote(map(), nil | :last | :review | {:fork, String.t()} | String.t()) ::
          :ok | {:error, Codex.Reason.option()}
  def check_remote(%{remote: nil}, _thread), do: :ok
  def check_remote(_settings, :review), do: {:error, {:unsupported_option, :remote, :review}}
  def check_remote(_settings, {:fork, _id}), do: {:error, {:unsupported_option, :remote, :fork}}
  def check_remote(_settings, :last), do: {:error, {:unsupported_option, :remote, :last}}

  def check_remote(settings, _thread) do
    none = [nil, false, :inherit, [], %{}]
    own = Enum.find(@sends, fn {name, default} -> settings[name] not in [default | none] end)

    case {own, settings.below} do
      {nil, []} -> :ok
      {nil, _config_of_the_client} -> {:error, {:unsupported_option, :config, :remote}}
      {{name, _default}, _below} -> {:error, {:unsupported_option, name, :remote}}
    end
  end

  defp add(sent, more) do
    %{
      sent
      | flags: sent.flags ++ Keyword.get(more, :flags, []),
        overrides: sent.overrides ++ Keyword.get(more, :overrides, []),
        env: Map.merge(sent.env, Keyword.get(more, :env, %{}))
    }
  end

  # `Codex.Options.Merge` resolves `full_auto`, and `Codex.Exec.Argv` has the prompt and the thread.
  defp reach(how, _value, _name, _settings)
       when how in [:host, :hooks, :input, :overrides, :resume_all, :full_auto],
       do: []

  defp reach(:refused, _value, name, _settings), do: {:error, {:unsupported_option, name}}
  defp reach({:always, value}, value, _name, _settings), do: []
  defp reach({:always, _}, _value, name, _settings), do: {:error, {:unsupported_option, name}}

  defp reach({:flag, flag}, value, _name, _settings), do: [flags: [flag, to_string(value)]]
  defp reach({:switch, flag}, on?, _name, _settings), do: [flags: if(on?, do: [flag], else: [])]

  defp reach({:each, flag}, values, _name, _settings),
    do: [flags: Enum.flat_map(values, &[flag, &1])]

  defp reach({:env, names}, value, _name, _settings), do: [env: Map.new(names, &{&1, value})]

  defp reach({:dangerous, flag}, on?, _name, _settings),
    do: [flags: if(on?, do: [flag], else: [])]

  defp reach(:isolation, :inherit, _name, _settings), do: []

  # A flag that was set by itself must not stand twice.
  defp reach(:isolation, :project, _name, settings),
    do: [flags: ignore(settings, [:ignore_user_config])]

  defp reach(:isolation, :hermetic, _name, settings),
    do: [
      flags: ignore(settings, [:ignore_user_config, :ignore_rules]),
      overrides: [override("project_doc_max_bytes", 0)]
    ]

  # `Codex.Exec.Argv` adds their server, which needs a name that is free.
  defp reach(:tools, tools, _name, _settings),
    do: with({:ok, _service} <- Tools.new(tools, nil), do: [])

  defp reach(:trace, trace, _name, _settings),
    do: [env: if(trace, do: Trace.env(trace), else: %{})]

  defp reach(:base_url, url, _name, _settings),
    do: [overrides: [override("openai_base_url", url)]]

  # The CLI reads these from a file as well: there they may have any length.
  defp reach(:base_instructions, text, _name, _settings) do
    if byte_size(text) > @max_argument,
      do: [overrides: [{:file, ["model_instructions_file"], text}]],
      else: [overrides: [override("instructions", text)]]
  end

  defp reach(:sandbox, :external_sandbox, name, _settings),
    do: {:error, {:unsupported_option, name, :external_sandbox}}

  # The kind of a policy, which may be the turn's, wins.
  defp reach(:sandbox, _mode, _name, %{sandbox_policy: %{type: _}}), do: []
  defp reach(:sandbox, mode, _name, _settings), do: [flags: ["--sandbox", Sandbox.mode(mode)]]

  defp reach(:sandbox_policy, %{type: "external-sandbox"}, name, _settings),
    do: {:error, {:unsupported_option, name, "external-sandbox"}}

  defp reach(:sandbox_policy, policy, _name, _settings) do
    {type, details} = Map.pop(policy, :type)

    [
      flags: if(type, do: ["--sandbox", type], else: []),
      overrides:
        for({name, value} <- details, do: override(["sandbox_workspace_write", name], value))
    ]
  end

  defp reach(:approval, :untrusted, name, _settings),
    do: {:error, {:unsupported_option, name, :untrusted}}

  defp reach(:approval, policy, _name, _settings),
    do: [overrides: [override("approval_policy", dashed(policy))]]

  defp reach(how, value, name, settings) do
    with {:ok, overrides} <- Merge.overrides(how, value, name, settings),
         do: [overrides: overrides]
  end

  defp ignore(settings, names) do
    names = if settings[:made_home?], do: names -- [:ignore_user_config], else: names
    for name <- names, not (settings[name] || false), do: "--" <> dashed(name)
  end

  defp dashed(value) when is_atom(value),
    do: value |> Atom.to_string() |> String.replace("_", "-")

  defp dashed(value), do: value
end
