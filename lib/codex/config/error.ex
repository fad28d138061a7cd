defmodule Codex.Config.Error do
  @moduledoc """
  A problem of a configuration, as an error or as a warning (`Codex.Config.warnings/1`).

  `:reason` is one of a closed set:

    * `:empty_home`, `:missing_home` - there is no home to read from, see `Codex.Home.resolve/1`
    * `:foreign_home` - `Codex.Test.guard!/0` keeps tests away from this home
    * `:bad_profile` - a profile's name has characters other than letters, digits, `_` and `-`
    * `:bad_override` - an override has no `=` or no key; `:found` holds it
    * `:unreadable` - a file exists and cannot be read; `:found` holds the posix reason
    * `:syntax` - a file is invalid TOML
    * `:too_large` - a file has more keys and values than `:max_nodes`; `:expected` holds the limit
    * `:type` - a value has the wrong type
    * `:value` - a value of the right type is not allowed
    * `:unknown_key` - there is no such key; `:nearest` holds the known key with the nearest
      spelling
    * `:missing_key` - a table lacks a key
    * `:refused` - the CLI knows the key or value and refuses it
    * `:project_key` - the CLI does not read this key from a project's file (only as a warning)
    * `:conflict` - a file has changed since it was read; `:expected` and `:found` hold the versions
    * `:bad_value` - a value, or the name of a key in it, cannot be written as TOML; `:path` names
      the key
    * `:unwritable` - a file cannot be written; `:found` holds the posix reason

  Other fields are nil if they do not apply:

    * `:file`, `:line` and `:column` - the position; lines and columns count from 1, columns in
      characters
    * `:path` - the segments of the key
    * `:message` - in the words of the CLI, if those are known
    * `:found`, `:expected`
    * `:source_line` - the text of the line, at most 400 bytes

  `message/1` formats all of them. `:nearest` is looked up for the first 200 unknown keys of a file.
  """

  alias Codex.Text

  @typedoc "The kind of the problem. See the list above."
  @type reason ::
          :empty_home
          | :missing_home
          | :foreign_home
          | :bad_profile
          | :bad_override
          | :unreadable
          | :syntax
          | :too_large
          | :type
          | :value
          | :unknown_key
          | :missing_key
          | :refused
          | :project_key
          | :conflict
          | :bad_value
          | :unwritable

  @typedoc "A problem of a configuration. Fields: see above."
  @type t :: %__MODULE__{
          reason: reason(),
          file: Path.t() | nil,
          line: pos_integer() | nil,
          column: pos_integer() | nil,
          path: [String.t()] | nil,
          message: String.t(),
          found: String.t() | nil,
          expected: String.t() | nil,
          nearest: String.t() | nil,
          source_line: String.t() | nil
        }

  @enforce_keys [:reason, :message]
  defexception [
    :reason,
    :file,
    :line,
    :column,
    :path,
    :message,
    :found,
    :expected,
    :nearest,
    :source_line
  ]

  @doc """
  Formats the position, the message, the nearest known key and the line itself.

      iex> Exception.message(%Codex.Config.Error{
      ...>   reason: :unknown_key, file: "/h/c.toml", line: 2, column: 1, path: ["modle"],
      ...>   message: "unknown field `modle`", nearest: "model", source_line: "modle = 1"
      ...> })
      "/h/c.toml:2:1: unknown field `modle`; did you mean `model`?\\n  2 | modle = 1"
  """
  @impl true
  @spec message(t()) :: String.t()
  def message(%__MODULE__{} = error) do
    [place(error), text(error), key(error), suggestion(error), excerpt(error)]
    |> IO.iodata_to_binary()
    |> Text.printable()
  end

  # The TOML parser writes several lines. In other messages a line break is part of a key or value.
  defp text(%{reason: :syntax, message: message}), do: message
  defp text(%{message: message}), do: Text.line(message)

  defp place(%{file: file, line: line, column: column}) when is_binary(file) and line != nil,
    do: "#{Text.line(file)}:#{line}:#{column}: "

  # The message names the file then.
  defp place(%{reason: reason}) when reason in [:missing_home, :foreign_home], do: ""
  defp place(%{file: file}) when is_binary(file), do: "#{Text.line(file)}: "
  defp place(_error), do: ""

  # Session flags have no line.
  defp key(%{file: nil, path: [_ | _] = path, reason: reason})
       when reason in [:type, :value, :missing_key, :refused],
       do: " (-c #{path |> Enum.join(".") |> Text.line()})"

  defp key(_error), do: ""

  defp suggestion(%{nearest: nearest}) when is_binary(nearest),
    do: "; did you mean `#{Text.line(nearest)}`?"

  defp suggestion(_error), do: ""

  defp excerpt(%{line: line, source_line: text}) when line != nil and is_binary(text),
    do: "\n  #{line} | #{Text.line(text)}"

  defp excerpt(_error), do: ""
end
