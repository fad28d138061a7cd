defmodule Codex.AppServer.Options do
  @moduledoc false
  # The options of `Codex.AppServer.connect/2` and `connect_remote/2`.

  alias Codex.AppServer.Reconnect
  alias Codex.JSONRPC.Socket.Address
  alias Codex.{OptionError, Protocol}
  alias Codex.Options.{Overrides, Schema, Type}
  alias Codex.Options.Rows.AppServer, as: Rows

  @child Schema.new(Rows.child(), places: true)
  @remote Schema.new(Rows.remote(), places: true)

  @typedoc "The function that takes the options: `connect/2`, or `connect_remote/2`."
  @type kind :: :child | :remote

  defp schema(:child), do: @child
  defp schema(:remote), do: @remote

  @doc "Returns the options as a Markdown list."
  @spec docs(kind()) :: String.t()
  def docs(kind \\ :child), do: Schema.docs(schema(kind))

  @doc "Returns all options as a map."
  @spec new(term(), kind()) :: {:ok, map()} | {:error, OptionError.t()}
  def new(options, kind \\ :child) do
    with {:ok, options} <- Schema.validate(schema(kind), options, &cast/2),
         do: {:ok, Map.new(options, &expand/1)}
  end

  defp expand({name, path}) when name in [:cwd, :codex_home] and is_binary(path),
    do: {name, Path.expand(path)}

  defp expand(option), do: option

  defp cast(:listen, "unix://"), do: {:ok, "unix://"}

  defp cast(:listen, "unix://" <> _ = url) do
    case Address.new(url) do
      {:ok, address} -> {:ok, "unix://" <> address.host}
      {:error, _invalid} -> :error
    end
  end

  defp cast(:listen, _other), do: :error

  defp cast(:name, {:via, module, _} = name) when is_atom(module), do: {:ok, name}
  defp cast(:name, {:global, _} = name), do: {:ok, name}
  defp cast(:name, name) when is_atom(name) and not is_boolean(name), do: {:ok, name}

  # A space or the end of a line would make another header of it.
  defp cast(:token, value) when is_binary(value),
    do: if(value =~ ~r/\A[\x21-\x7e]+\z/, do: {:ok, value}, else: :error)

  defp cast(:headers, value) do
    with {:ok, pairs} <- Type.pairs(value),
         do: if(Enum.all?(pairs, &header?/1), do: {:ok, pairs}, else: :error)
  end

  defp cast(:tls, value) do
    keys = [:cacertfile, :certfile, :keyfile, :versions, :ciphers]

    if Keyword.keyword?(value) and Enum.all?(value, fn {key, _} -> key in keys end),
      do: {:ok, value},
      else: :error
  end

  defp cast(:reconnect, value), do: Reconnect.new(value)

  # Those that are options of a connection are not set here.
  defp cast(:capabilities, value) do
    with {:ok, capabilities} <- Protocol.check("InitializeCapabilities", value),
         false <- is_map_key(capabilities, "experimentalApi"),
         false <- is_map_key(capabilities, "optOutNotificationMethods") do
      {:ok, capabilities}
    else
      _ -> :error
    end
  end

  defp cast(:overrides, value) do
    with {:ok, overrides} <- Overrides.new(value),
         {:ok, _arguments} <- Overrides.arguments(overrides) do
      {:ok, overrides}
    else
      # The path of a value below its key is text with dots.
      {:error, path} when is_binary(path) ->
        if Enum.any?(value, &match?({^path, _}, &1)),
          do: :error,
          else: {:error, OptionError.invalid([path], "[redacted]", "a value that TOML has")}

      {:error, _key} ->
        :error
    end
  end

  defp cast(_type, _value), do: :error

  # Headers of the handshake itself, and `Origin`, which the server refuses.
  @own ~w(host upgrade connection origin content-length transfer-encoding)

  defp header?({name, value}) when is_binary(name) and is_binary(value) do
    lower = String.downcase(name)

    name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/ and value =~ ~r/\A[\x20-\x7e\t]*\z/ and
      lower not in @own and not String.starts_with?(lower, "sec-websocket-")
  end

  defp header?(_other), do: false
end
