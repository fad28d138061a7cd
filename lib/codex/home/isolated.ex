defmodule Codex.Home.Isolated do
  @moduledoc """
  Makes a `CODEX_HOME` for runs that must not see or change the user's home: no login, no
  configuration but the given one, no AGENTS file, no rules, no sessions.

      {:ok, home} =
        Codex.Home.Isolated.create(config: %{"model" => "gpt-6", "analytics.enabled" => false})

      {:ok, thread} = Codex.start_thread([codex_home: home, api_key: key], isolation: :hermetic)

  The given configuration counts with every `isolation` and with `ignore_user_config`: the CLI is
  not told to ignore the `config.toml` of such a home, because it is not the user's.

  The directory belongs to the process that made it. It is removed, with the sessions of its threads,
  when that process ends, when `remove/1` is called, or when the VM ends: at the end of a script, by
  `System.halt/1`, or by a signal. A VM that halts or is killed removes nothing itself: a program
  that watches the VM removes the directory within seconds.
  """
  alias Codex.{FileSystem, Leftovers}
  alias Codex.Options.{Keywords, Overrides}

  @type error ::
          {:invalid_config, term()}
          | {:unknown_option, term(), atom() | nil}
          | {:write_failed, Path.t(), FileSystem.reason()}

  @doc """
  Makes a home. Options:

    * `:config` - the contents of its `config.toml`: map or keyword list; keys are split at dots
      (default: nothing)
    * `:dir` - the directory in which the home is made (default: the user's cache folder; the CLI
      warns about homes in the temporary folder)
    * `:owner` - the process with which the home goes (default: the caller)

  Returns `{:ok, path}`. Errors: `{:invalid_config, key}`, `{:unknown_option, key, nearest}`,
  `{:write_failed, path, posix}`. Raises `RuntimeError` if the application `:codex_sdk` is not
  started, and `ArgumentError` if `:dir` is no path or `:owner` no pid.
  """
  @spec create(keyword()) :: {:ok, Path.t()} | {:error, error()}
  def create(opts \\ []) do
    case Keyword.keys(Keywords.list!(opts)) -- [:config, :dir, :owner] do
      [] ->
        Keywords.check!(opts, :owner, &(is_nil(&1) or is_pid(&1)), "a pid")
        Keywords.check!(opts, :dir, &(is_nil(&1) or (is_binary(&1) and &1 != "")), "a path")

        with {:ok, toml} <- toml(opts[:config] || %{}),
             do: make(opts[:dir] || default_dir(), toml, opts[:owner] || self())

      [key | _] ->
        {:error, Codex.Options.Unknown.reason(key, [:config, :dir, :owner])}
    end
  end

  @doc "Removes a home before its owner ends. Other directories stay as they are."
  @spec remove(Path.t()) :: :ok
  def remove(home) do
    if Leftovers.known?(home) do
      _ = File.rm_rf(home)
      _ = Leftovers.forget([home])
    end

    :ok
  end

  @doc false
  # From now on a home goes with another process.
  @spec give(Path.t(), pid()) :: :ok
  def give(home, owner) do
    _ = Leftovers.forget([home])
    _ = Leftovers.adopt([home], owner, :remove)
    :ok
  end

  defp default_dir, do: :filename.basedir(:user_cache, "codex_sdk") |> IO.chardata_to_string()

  # Dotted keys only: each line stands by itself.
  defp toml(config) do
    with {:ok, told} <- Overrides.new(config),
         false <- Enum.any?(told, &is_binary/1),
         {:ok, document} <- Overrides.document(told) do
      {:ok, document}
    else
      true -> {:error, {:invalid_config, :not_a_table}}
      {:error, which} -> {:error, {:invalid_config, which}}
    end
  end

  defp make(parent, toml, owner) do
    name = "home-" <> Base.encode32(:crypto.strong_rand_bytes(10), case: :lower, padding: false)
    home = parent |> Path.join(name) |> Path.expand()
    adopt!(home, owner)

    # Both are private from their first moment: the configuration may hold keys.
    with :ok <- FileSystem.make_private(home),
         :ok <- Codex.Home.mark(home),
         :ok <- FileSystem.swap(Path.join(home, "config.toml"), "", toml) do
      {:ok, home}
    else
      {:error, reason} ->
        _ = File.rm_rf(home)
        _ = Leftovers.forget([home])
        {:error, {:write_failed, home, reason}}
    end
  end

  defp adopt!(home, owner) do
    with {:error, :not_started} <- Leftovers.adopt([home], owner, :remove) do
      raise "a home needs the application :codex_sdk, which is not started: " <>
              "call Application.ensure_all_started(:codex_sdk)"
    end
  end
end
