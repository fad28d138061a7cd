defmodule Codex.Auth.Store do
  @moduledoc false
  # Reads, writes and removes one set of credentials. The rules are in Rust
  # (`codex_core::auth::store`). This module waits for the answer, keeps ephemeral logins, and
  # converts errors.

  alias Codex.Auth.{Context, Credentials, Runtime}
  alias Codex.{Native, NativePool}

  require Logger

  @type slot :: :login | {:mcp, server :: String.t(), url :: String.t()}

  @typedoc "The failure of a keyring: kind and words."
  @type fault :: {atom(), String.t()} | nil

  @spec load(slot(), Context.t()) ::
          {:ok, term(), Credentials.source(), fault()}
          | {:none, fault()}
          | {:error, Codex.Reason.store()}
  def load(:login, %Context{store: :ephemeral} = context) do
    with {:ok, account} <- account(context) do
      case Runtime.get(account) do
        nil ->
          {:none, nil}

        document ->
          {:ok, login} = Native.auth_login(document)
          {:ok, login, :memory, nil}
      end
    end
  end

  def load(slot, context) do
    answer(slot, context, &Native.auth_load(&1, &2, request(slot, context)))
  end

  @spec save(slot(), String.t(), Context.t()) ::
          {:ok, Credentials.source(), fault()} | {:error, Codex.Reason.store()}
  def save(:login, document, %Context{store: :ephemeral} = context) do
    with {:ok, account} <- account(context) do
      :ok = Runtime.put(account, document)
      {:ok, :memory, nil}
    end
  end

  def save(slot, document, context) do
    answer(slot, context, &Native.auth_save(&1, &2, request(slot, context), document))
  end

  @doc "Removes the credentials. Returns whether the keyring and the file had them."
  @spec delete(slot(), Context.t()) ::
          {:ok, boolean(), boolean(), fault()} | {:error, Codex.Reason.store()}
  def delete(:login, %Context{store: :ephemeral} = context) do
    with {:ok, account} <- account(context), do: {:ok, Runtime.delete(account), false, nil}
  end

  def delete(slot, context) do
    answer(slot, context, &Native.auth_delete(&1, &2, request(slot, context)))
  end

  @doc "Checks whether there is an unlocked keyring."
  @spec probe(Context.t()) :: :ok | {:error, {atom(), String.t()}}
  def probe(context) do
    # Any slot will do.
    request = request(:login, %{context | store: :keyring})

    NativePool.call(&Native.auth_probe(&1, &2, request))
  end

  @doc "Lists the servers with tokens in the file."
  @spec mcp_servers(Context.t()) ::
          {:ok, [{String.t(), String.t()}]} | {:error, Codex.Reason.store()}
  def mcp_servers(context) do
    call = &Native.auth_mcp_servers(&1, &2, context.home, context.timeout)
    with {:error, why} <- NativePool.call(call), do: {:error, reason(why)}
  end

  defp account(context) do
    case NativePool.call(&Native.auth_account(&1, &2, context.home), context.timeout) do
      {:ok, account} ->
        {:ok, account}

      {:error, :timeout} ->
        {:error, {:unreadable, context.home, "the file system did not answer in time"}}

      {:error, why} ->
        {:error, reason(why)}
    end
  end

  @doc """
  Warns once in the log of this VM that no keyring can be reached, with the reason and the
  replacement.
  """
  @spec warn_once(fault(), String.t()) :: :ok
  def warn_once(nil, _instead), do: :ok

  def warn_once({_kind, words}, instead) do
    # Tests of applications reset the warning by this name. No alias: this module is below
    # Codex.Auth.
    key = {:"Elixir.Codex.Auth", :keyring_warning_emitted}

    unless :persistent_term.get(key, false) do
      :persistent_term.put(key, true)
      Logger.warning(Codex.Text.line("codex_sdk keyring auth: #{words}; #{instead}"))
    end

    :ok
  end

  defp answer(slot, context, start) do
    if mode(slot, context) == :encrypted do
      {:error, :encrypted_store}
    else
      with {:error, why} <- NativePool.call(start), do: {:error, reason(why)}
    end
  end

  defp mode(:login, context), do: context.store
  defp mode({:mcp, _server, _url}, context), do: context.mcp_store

  defp request(slot, context) do
    bus = {text(context.env["DBUS_SESSION_BUS_ADDRESS"]), text(context.env["XDG_RUNTIME_DIR"])}
    {slot, mode(slot, context), context.home, bus, context.prompt, context.timeout}
  end

  defp text(value), do: if(is_binary(value) and String.valid?(value), do: value)

  @doc false
  def reason({:keyring, {:unavailable, _words}}), do: :keyring_unavailable
  def reason({:keyring, {kind, words}}), do: {:keyring, kind, words}
  def reason({:invalid, source, words}), do: {:invalid_credentials, source, words}
  def reason({:io, path, _code, words}), do: {:unreadable, path, words}
  def reason({:held, path}), do: {:lock_held, path}
  def reason({:native, words}), do: {:native, words}
end
