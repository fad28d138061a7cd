defmodule Codex.HTTP.Body do
  @moduledoc false
  # The framing of an answer's body (RFC 9112, 6), without a socket.

  alias Codex.HTTP.Head

  @typedoc "The state of the framing, of which `:done` is the last."
  @type t ::
          :done
          | :until_close
          | {:length, pos_integer()}
          | {:chunk, non_neg_integer()}
          | :size
          | :trailer

  # A line with the size of a chunk, or of a trailer, ends within so many bytes.
  @longest_line 8 * 1024

  @doc "Returns the framing of an answer, or an error for a framing that is not known."
  @spec new(String.t(), 100..599, [Head.header()]) :: {:ok, t()} | :error
  def new(method, status, _headers) when method == "HEAD" or status in [204, 304],
    do: {:ok, :done}

  def new(_method, _status, headers) do
    codings = Head.words(headers, "transfer-encoding")
    lengths = headers |> Head.words("content-length") |> Enum.uniq()

    case {codings, lengths} do
      {["chunked"], _ignored} -> {:ok, :size}
      {[], []} -> {:ok, :until_close}
      {[], [length]} -> declared(length)
      _ -> :error
    end
  end

  defp declared(text) do
    case Integer.parse(text) do
      {0, ""} -> {:ok, :done}
      {length, ""} when length > 0 -> {:ok, {:length, length}}
      _ -> :error
    end
  end

  @doc """
  Takes the next data from received bytes. `:more` needs more bytes than those returned with it.
  """
  @spec next(t(), binary()) ::
          {:data, binary(), t(), binary()} | {:more, t(), binary()} | {:done, binary()} | :error
  def next(:done, bytes), do: {:done, bytes}
  def next(state, ""), do: {:more, state, ""}
  def next(:until_close, bytes), do: {:data, bytes, :until_close, ""}

  def next({:length, left}, bytes) when byte_size(bytes) < left,
    do: {:data, bytes, {:length, left - byte_size(bytes)}, ""}

  def next({:length, left}, bytes) do
    {data, rest} = split(bytes, left)
    {:data, data, :done, rest}
  end

  def next({:chunk, 0}, "\r\n" <> rest), do: next(:size, rest)
  def next({:chunk, 0}, "\r"), do: {:more, {:chunk, 0}, "\r"}
  def next({:chunk, 0}, _bytes), do: :error

  def next({:chunk, left}, bytes) when byte_size(bytes) <= left,
    do: {:data, bytes, {:chunk, left - byte_size(bytes)}, ""}

  def next({:chunk, left}, bytes) do
    {data, rest} = split(bytes, left)
    {:data, data, {:chunk, 0}, rest}
  end

  def next(state, bytes) do
    case :binary.split(bytes, "\r\n") do
      [line, rest] -> line(state, line, rest)
      [_cut] when byte_size(bytes) > @longest_line -> :error
      [_cut] -> {:more, state, bytes}
    end
  end

  defp split(bytes, at),
    do: {binary_part(bytes, 0, at), binary_part(bytes, at, byte_size(bytes) - at)}

  defp line(:trailer, "", rest), do: {:done, rest}
  defp line(:trailer, _header, rest), do: next(:trailer, rest)

  # Extensions follow the size behind a semicolon.
  defp line(:size, line, rest) do
    digits = line |> :binary.split(";") |> hd() |> String.trim()

    case byte_size(digits) <= 15 and digits =~ ~r/\A[0-9a-fA-F]+\z/ and
           String.to_integer(digits, 16) do
      false -> :error
      0 -> next(:trailer, rest)
      size -> next({:chunk, size}, rest)
    end
  end
end
