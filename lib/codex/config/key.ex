defmodule Codex.Config.Key do
  @moduledoc """
  Names of configuration keys.

  A key is a list of segments, or one string in TOML's notation: segments separated by dots, with
  quotes around segments that contain dots. An element of an array has its index, counted from 0, as
  its segment.
  """

  alias Codex.Options.Type

  @typedoc ~S"""
  A string such as `"history.persistence"` or `~S(projects."/a/b".trust_level)`, or a list such as
  `["projects", "/a/b", "trust_level"]`.
  """
  @type t :: String.t() | [String.t(), ...]

  @doc """
  Splits a key into its segments. Raises `ArgumentError` for an invalid key.

      iex> Codex.Config.Key.parse!(~S(projects."/a.b".trust_level))
      ["projects", "/a.b", "trust_level"]
      iex> Codex.Config.Key.parse!(~S(a."say \\"x\\"".'c.d'))
      ["a", ~S(say "x"), "c.d"]
      iex> Codex.Config.Key.parse!("a..b")
      ** (ArgumentError) not a configuration key: "a..b"
  """
  @spec parse!(t()) :: [String.t(), ...]
  def parse!([_ | _] = segments) do
    if Enum.all?(segments, &is_binary/1), do: segments, else: refuse(segments)
  end

  def parse!(text) when is_binary(text), do: segments(text, text, [])
  def parse!(other), do: refuse(other)

  defp segments(rest, whole, done) do
    case segment(rest) do
      {segment, ""} -> Enum.reverse([segment | done])
      {segment, "." <> rest} -> segments(rest, whole, [segment | done])
      _ -> refuse(whole)
    end
  end

  defp segment("\"" <> rest), do: quoted(rest, "")

  defp segment("'" <> rest) do
    with [segment, rest] <- String.split(rest, "'", parts: 2), do: {segment, rest}
  end

  # More lenient than TOML: a path needs quotes only if it contains a dot.
  defp segment(text) do
    case Regex.run(~r/\A[^."']+/u, text) do
      [segment] ->
        {segment, binary_part(text, byte_size(segment), byte_size(text) - byte_size(segment))}

      nil ->
        :error
    end
  end

  defp quoted("\\" <> <<char::utf8, rest::binary>>, done) when char in [?", ?\\],
    do: quoted(rest, done <> <<char>>)

  defp quoted("\"" <> rest, done), do: {done, rest}
  defp quoted(<<char::utf8, rest::binary>>, done), do: quoted(rest, done <> <<char::utf8>>)
  defp quoted(_rest, _done), do: :error

  @spec refuse(term()) :: no_return()
  defp refuse(key) do
    shown = if is_binary(key), do: inspect(key), else: Type.kind(key)
    raise ArgumentError, "not a configuration key: #{shown}"
  end

  @doc """
  Formats a key as one string, with quotes if they are needed.

      iex> Codex.Config.Key.format(["projects", "/a.b", "trust_level"])
      ~S(projects."/a.b".trust_level)
  """
  @spec format([String.t()]) :: String.t()
  def format(segments) when is_list(segments), do: Enum.map_join(segments, ".", &format_segment/1)

  defp format_segment(segment) do
    if segment =~ ~r/\A[A-Za-z0-9_-]+\z/,
      do: segment,
      else:
        [?", String.replace(segment, ["\\", "\""], &("\\" <> &1)), ?"] |> IO.iodata_to_binary()
  end
end
