defmodule Codex.Doctor.Check.Auth do
  @moduledoc false
  # Which credential each lane would use.

  alias Codex.Auth
  alias Codex.Auth.Preflight
  alias Codex.Doctor.{Check, Place}

  @names %{exec: "codex exec", app_server: "app-server"}

  @spec run(Place.t()) :: {Check.t(), Place.t()}
  def run(%Place{context: nil} = place),
    do: {Check.new(:auth, :skipped, "it takes the configuration to know"), place}

  def run(place) do
    exec = Preflight.run(:exec, place.context)
    app_server = Preflight.run(:app_server, place.context)
    details = lane(exec, exec) ++ lane(app_server, exec)
    {Check.new(:auth, Check.worst(details), summary(exec), details), %{place | preflight: exec}}
  end

  defp summary(%{ready?: true} = exec), do: paid(exec)
  defp summary(exec), do: Auth.explain(exec.error)

  defp lane(preflight, exec) do
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

    [Map.merge(facts, status(preflight, exec)) | warnings(preflight)]
  end

  # Threads run on `codex exec`. What the CLI alone can read may be there.
  defp status(%{ready?: true}, _exec), do: %{}
  defp status(%{error: :encrypted_store}, _exec), do: %{status: :warning}
  defp status(%{lane: :app_server}, %{ready?: true}), do: %{status: :warning}
  defp status(_preflight, _exec), do: %{status: :error}

  defp warnings(preflight) do
    for %{code: code, message: message} <- preflight.warnings,
        do: %{
          status: :warning,
          text: "#{@names[preflight.lane]}: #{message}",
          lane: preflight.lane,
          code: code
        }
  end

  defp outcome(%{ready?: true} = preflight), do: paid(preflight)
  defp outcome(preflight), do: Auth.explain(preflight.error)

  defp paid(%{method: :none, provider: provider}), do: "#{provider} asks for no credential"

  defp paid(preflight) do
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
end
