defmodule Codex.RateLimit.Account do
  @moduledoc false
  # Who pays for a run, as a text that tells nobody anything: provider and a digest of the key, or, where there is a login
  # or nothing, of the home. Cheap: neither login nor configuration is read, so a provider that only the configuration names is
  # called `default`.

  @doc "The account of these settings (`Codex.Exec.Reach.settings/3`)."
  @spec name(map()) :: String.t()
  def name(settings) do
    {kind, payer} = payer(settings)
    provider = provider(settings)

    digest =
      :crypto.hash(:sha256, [provider, 0, settings.base_url || "", 0, payer])
      |> binary_part(0, 8)
      |> Base.encode16(case: :lower)

    "#{provider}:#{kind}:#{digest}"
  end

  # What the CLI takes: the key in its environment beats the login (0.169).
  defp payer(settings) do
    case variable(settings, "CODEX_API_KEY", settings.api_key) do
      key when key in [nil, ""] -> {:home, home(settings)}
      key -> {:key, key}
    end
  end

  defp home(settings) do
    named = settings.codex_home || variable(settings, "CODEX_HOME", nil)

    case named || variable(settings, "HOME", nil) do
      nil -> ""
      path when named == nil -> Path.join(path, ".codex")
      path -> Path.expand(path)
    end
  end

  defp variable(settings, name, given) do
    case settings.env do
      %{^name => value} -> value
      _ -> given || if(settings.clear_env? != true, do: System.get_env(name))
    end
  end

  defp provider(%{model_provider: id}) when is_binary(id), do: id
  defp provider(%{oss: true} = settings), do: settings.local_provider || "oss"
  defp provider(_settings), do: "default"
end
