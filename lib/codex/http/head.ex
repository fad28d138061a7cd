defmodule Codex.HTTP.Head do
  @moduledoc false
  # Heads of HTTP/1.1 messages, without a socket.

  alias Codex.OptionError

  @type header :: {String.t(), String.t()}

  @doc "Parses the head of an answer. Names of headers are in lower case."
  @spec parse(binary()) :: {:ok, 100..599, [header()], rest :: binary()} | :more | :error
  def parse(bytes) do
    case :erlang.decode_packet(:http_bin, bytes, []) do
      {:ok, {:http_response, _version, status, _words}, rest} when status in 100..599 ->
        headers(rest, status, [])

      {:more, _} ->
        :more

      _ ->
        :error
    end
  end

  defp headers(bytes, status, known) do
    case :erlang.decode_packet(:httph_bin, bytes, []) do
      {:ok, {:http_header, _, name, _, value}, rest} ->
        headers(rest, status, [{name |> to_string() |> String.downcase(), value} | known])

      {:ok, :http_eoh, rest} ->
        {:ok, status, Enum.reverse(known), rest}

      {:more, _} ->
        :more

      _ ->
        :error
    end
  end

  @doc "Returns the head of a request, or an error for a header that would break its line."
  @spec request(String.t(), String.t(), [header()]) :: {:ok, iodata()} | {:error, OptionError.t()}
  def request(method, target, headers) do
    case Enum.find(headers, &invalid?/1) do
      nil ->
        lines = for {name, value} <- headers, do: [name, ": ", value, "\r\n"]
        {:ok, [method, " ", target, " HTTP/1.1\r\n", lines, "\r\n"]}

      {name, _value} ->
        expected = "names of letters, digits and dashes, and values without control characters"
        {:error, OptionError.argument(:headers, name, expected)}
    end
  end

  defp invalid?({name, value}) when is_binary(name) and is_binary(value),
    do: not (name =~ ~r/\A[!#$%&'*+.^_`|~0-9A-Za-z-]+\z/) or value =~ ~r/[\x00-\x08\x0a-\x1f\x7f]/

  defp invalid?(_other), do: true

  @doc "Returns the first value of a header, or nil."
  @spec value([header()], String.t()) :: String.t() | nil
  def value(headers, name) do
    with {_, value} <- List.keyfind(headers, name, 0), do: value
  end

  @doc "Returns the words of a header that is a list, in lower case."
  @spec words([header()], String.t()) :: [String.t()]
  def words(headers, name) do
    for {^name, value} <- headers,
        word <- String.split(value, ","),
        do: word |> String.trim() |> String.downcase()
  end
end
