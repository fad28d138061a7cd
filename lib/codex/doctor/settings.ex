defmodule Codex.Doctor.Settings do
  @moduledoc false
  # Checks the configuration, the credentials and the keyring.

  alias Codex.Auth
  alias Codex.Auth.Preflight
  alias Codex.Config
  alias Codex.Config.Layer
  alias Codex.Doctor.Check

  # --- The configuration: places and keys, never values -----------------------------------------

  def config(context) do
    opts = [
      codex_home: context.home,
      cwd: context.directory || false,
      env: context.env,
      system_dir: context.system_dir,
      timeout: context.timeout,
      # A check must not make the keyring ask the user for a password.
      prompt: false
    ]

    case Auth.Context.new(opts) do
      {:ok, auth} -> loaded(auth)
      {:error, error} -> {:error, "the CLI refuses it", [problem(error, :error)]}
    end
  end

  defp loaded(%{config: config} = auth) do
    layers = Enum.map(Config.layers(config), &layer/1)
    problems = Enum.map(Config.warnings(config), &problem(&1, :warning))
    details = layers ++ requirements(Config.requirements(config)) ++ problems
    {Check.worst(details), config_summary(layers, problems), details, auth: auth}
  end

  defp config_summary(layers, problems) do
    counting = Enum.count(layers, &(&1.disabled_reason == nil))
    count(counting, "layer") <> but(length(layers) - counting) <> warned(length(problems))
  end

  defp but(0), do: ""
  defp but(1), do: ", and 1 that does not count"
  defp but(n), do: ", and #{n} that do not count"

  defp warned(0), do: ""
  defp warned(n), do: ", #{count(n, "warning")}"

  defp count(1, noun), do: "1 #{noun}"
  defp count(n, noun), do: "#{n} #{noun}s"

  defp layer(%Layer{} = layer) do
    keys = map_size(layer.config)
    file = if layer.file, do: " #{layer.file}", else: ""
    size = if keys == 0, do: "empty", else: count(keys, "key")
    text = "#{Layer.label(layer.name)}#{file} (#{size})"
    why = layer.disabled_reason
    facts = %{text: text, layer: layer.name, file: layer.file, keys: keys, disabled_reason: why}

    if why,
      do: Map.merge(facts, %{status: :warning, text: "#{text} does not count: #{why}"}),
      else: facts
  end

  defp requirements(required) when required == %{}, do: []

  defp requirements(required) do
    keys = Map.keys(required)
    text = "requirements.toml may replace these settings: #{Enum.join(keys, ", ")}"
    [%{text: text, requirements: keys}]
  end

  defp problem(%Config.Error{} = error, status) do
    error = %{error | message: without_value(error), source_line: nil}

    %{
      status: status,
      text: Exception.message(error),
      reason: error.reason,
      file: error.file,
      line: error.line,
      column: error.column,
      key: error.path && Enum.join(error.path, ".")
    }
  end

  # A value in the wrong place may be a key, so the text names its type only: a string for
  # `string "sk-…"`.
  defp without_value(%Config.Error{reason: reason, expected: expected} = error)
       when reason in [:type, :value] and is_binary(expected) do
    type = (error.found || "value") |> String.split(["\"", "`"]) |> hd() |> String.trim()
    "invalid #{reason}: #{type}, expected #{expected}"
  end

  defp without_value(error), do: error.message

  # --- The credentials of both transports -------------------------------------------------------

  @names %{exec: "codex exec", app_server: "app-server"}

  def auth(%{auth: auth}) do
    exec = Preflight.run(:exec, auth)
    app_server = Preflight.run(:app_server, auth)
    details = transport(exec, exec) ++ transport(app_server, exec)
    {Check.worst(details), outcome(exec), details, preflight: exec}
  end

  defp transport(preflight, exec) do
    facts = %{
      text: "#{@names[preflight.lane]}: #{outcome(preflight)}",
      lane: preflight.lane,
      ready: preflight.ready?,
      error: code(preflight.error),
      provider: preflight.provider,
      method: preflight.method,
      source: source(preflight.source),
      key_hint: preflight.key_hint,
      plan: preflight.plan,
      expires_at: preflight.expires_at && DateTime.to_iso8601(preflight.expires_at),
      renewable: preflight.renewable?,
      store: preflight.store,
      remote_models: preflight.remote_models?
    }

    [Map.merge(facts, auth_status(preflight, exec)) | warnings(preflight)]
  end

  # Threads run on `codex exec` by default. An encrypted store, which only the CLI can read, may
  # hold a credential.
  defp auth_status(%{ready?: true}, _exec), do: %{}
  defp auth_status(%{error: :encrypted_store}, _exec), do: %{status: :warning}
  defp auth_status(%{lane: :app_server}, %{ready?: true}), do: %{status: :warning}
  defp auth_status(_preflight, _exec), do: %{status: :error}

  defp warnings(preflight) do
    for %{code: code, message: message} <- preflight.warnings,
        do: %{
          status: :warning,
          text: "#{@names[preflight.lane]}: #{message}",
          lane: preflight.lane,
          code: code
        }
  end

  defp outcome(%{ready?: false, error: error}), do: Auth.explain(error)
  defp outcome(%{method: :none, provider: provider}), do: "#{provider} needs no credential"

  defp outcome(preflight) do
    [
      label(preflight.method),
      " of ",
      source(preflight.source),
      if(preflight.key_hint, do: " (#{preflight.key_hint})"),
      if(preflight.plan, do: ", plan #{preflight.plan}"),
      if(preflight.expires_at, do: ", until #{preflight.expires_at}"),
      " for ",
      preflight.provider
    ]
    |> Enum.join()
  end

  defp label(:api_key), do: "API key"
  defp label(:bearer_token), do: "token"
  defp label(method) when method in [:chatgpt, :chatgpt_auth_tokens], do: "ChatGPT login"
  defp label(:agent_identity), do: "agent identity"
  defp label(:personal_access_token), do: "personal access token"
  defp label(:bedrock_api_key), do: "Bedrock API key"
  defp label(:bedrock_access_keys), do: "Bedrock access keys"

  defp source({:env, variable}), do: variable
  defp source({:file, path}), do: path
  defp source({:keyring, account}), do: "the keyring (#{account})"
  defp source({:config, key}), do: key
  defp source(:memory), do: "the memory of this VM"
  defp source(nil), do: nil

  defp code(nil), do: nil
  defp code(code) when is_atom(code), do: code
  defp code(reason), do: elem(reason, 0)

  # --- The keyring ------------------------------------------------------------------------------

  def keyring(%{auth: auth, preflight: preflight}) do
    {state, words} = state(Auth.Store.probe(auth))
    needed? = auth.store == :keyring and not preflight.ready?

    detail = %{
      text: "logins: #{auth.store}; tokens of MCP servers: #{auth.mcp_store}",
      state: state,
      store: auth.store,
      mcp_store: auth.mcp_store
    }

    status = keyring_status(state, auth.store, needed?)
    {status, words <> consequence(status, state, auth.store), [detail]}
  end

  defp state(:ok), do: {:open, "open"}
  defp state({:error, {:locked, _words}}), do: {:locked, "locked"}
  defp state({:error, {:unavailable, words}}), do: {:unavailable, words}
  defp state({:error, {:timeout, words}}), do: {:timeout, words}
  defp state({:error, {_kind, words}}), do: {:failed, words}

  defp keyring_status(:open, _store, _needed?), do: :ok
  defp keyring_status(_state, _store, true), do: :error

  defp keyring_status(_state, store, false) when store in [:keyring, :auto, :encrypted],
    do: :warning

  defp keyring_status(_state, _store, false), do: :ok

  defp consequence(:ok, :open, _store), do: ""
  defp consequence(:ok, _state, _store), do: "; no login is kept there"
  defp consequence(:error, _state, _store), do: "; the login is kept there"
  defp consequence(:warning, _state, :encrypted), do: "; the CLI's encrypted store needs it"
  defp consequence(:warning, _state, _store), do: "; `codex exec` works without it"
end
