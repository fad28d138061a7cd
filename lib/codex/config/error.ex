defmodule Codex.Config.Error do
  @moduledoc """
  What can be wrong with a configuration, as an error or (`Codex.Config.warnings/1`) as a warning.

  `:reason` is one of a closed set:

    * `:empty_home`, `:missing_home` - there is no home to read from, see `Codex.Home.resolve/1`
    * `:foreign_home` - a home that `Codex.Test.guard!/0` keeps tests from
    * `:bad_profile` - a profile's name has other characters than letters, digits, `_` and `-`
    * `:bad_override` - an override without `=` or without a key; `:found` has it
    * `:unreadable` - a file exists and cannot be read; `:found` has the posix reason
    * `:syntax` - a file is not TOML
    * `:too_large` - a file has more keys and values than `:max_nodes`, which `:expected` has
    * `:type` - a value of another type
    * `:value` - a value of the right type that is not allowed
    * `:unknown_key` - no such key; `:nearest` has the known one that is spelled most like it
    * `:missing_key` - a table lacks a key
    * `:refused` - a key or value that the CLI knows and does not take
    * `:project_key` - a key that the CLI does not take from a project's file (only as a warning)
    * `:conflict` - a file moved since it was read; `:expected` and `:found` have the two versions
    * `:bad_value` - a value that TOML has no form for, or a table with a name that it cannot have;
      `:path` names its key
    * `:unwritable` - a file cannot be written; `:found` has the posix reason

  The other fields are nil where they do not apply: `:file`; `:line` and `:column`, from 1, in characters; `:path`, the
  key segment by segment; `:message`, in the words of the CLI where they are known; `:found` and `:expected`;
  `:source_line`, the text of the line, of a long line the first 400 bytes. `message/1` puts them
  together.

  `:nearest` is looked up for the first 200 unknown keys of a file.
  """

  alias Codex.Text

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
  The place, the message, what was meant, and the line itself.

      iex> Exception.message(%Codex.Config.Error{
      ...>   reason: :unknown_key, file: "/h/config.toml", line: 2, column: 1, path: ["modle"],
      ...>   message: "unknown configuration field `modle`", nearest: "model", source_line: "modle = 1"
      ...> })
      "/h/config.toml:2:1: unknown configuration field `modle`; did you mean `model`?\\n  2 | modle = 1"
  """
  @impl true
  @spec message(t()) :: String.t()
  def message(%__MODULE__{} = error) do
    [place(error), words(error), key(error), meant(error), excerpt(error)]
    |> IO.iodata_to_binary()
    |> Text.printable()
  end

  # The parser of TOML writes several lines; elsewhere a line break is one of a key or a value.
  defp words(%{reason: :syntax, message: message}), do: message
  defp words(%{message: message}), do: Text.line(message)

  defp place(%{file: file, line: line, column: column}) when is_binary(file) and line != nil,
    do: "#{Text.line(file)}:#{line}:#{column}: "

  # The file is in the message then.
  defp place(%{reason: reason}) when reason in [:missing_home, :foreign_home], do: ""
  defp place(%{file: file}) when is_binary(file), do: "#{Text.line(file)}: "
  defp place(_error), do: ""

  # Session flags have no line to point at.
  defp key(%{file: nil, path: [_ | _] = path, reason: reason})
       when reason in [:type, :value, :missing_key, :refused],
       do: " (-c #{path |> Enum.join(".") |> Text.line()})"

  defp key(_error), do: ""

  defp meant(%{nearest: nearest}) when is_binary(nearest),
    do: "; did you mean `#{Text.line(nearest)}`?"

  defp meant(_error), do: ""

  defp excerpt(%{line: line, source_line: text}) when line != nil and is_binary(text),
    do: "\n  #{line} | #{Text.line(text)}"

  defp excerpt(_error), do: ""
end
