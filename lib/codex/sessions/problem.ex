defmodule Codex.Sessions.Problem do
  @moduledoc """
  A fact about a home that a reader should know: a file or line that was not read, or a file that
  was left out because another one counts. `to_string/1` returns it in words.

    * `kind` - see below
    * `path` - the file, from the home on
    * `session` - the id of the thread, or nil
    * `count` - the number of lines, for `:bad_lines`, `:salvaged_lines` and `:long_lines`
    * `detail` - see below

  | kind | meaning | `detail` |
  | --- | --- | --- |
  | `:bad_lines` | lines are not whole: half a line, other bytes than JSON | byte of the first one |
  | `:salvaged_lines` | bad lines whose end was a whole line, which was read | |
  | `:long_lines` | lines are longer than 256 MiB | |
  | `:duplicate` | a rollout is both live and archived; the live one was read | the read file |
  | `:shadowed` | a rollout is both plain and compressed; the plain one was read | the read file |
  | `:empty` | the file has no bytes | |
  | `:unreadable` | the file cannot be read to its end, so that nothing of it counts | the reason |
  | `:gone` | the file was removed while the home was read | |
  | `:outside` | the path is a link out of the home and was not followed | |
  | `:ignored_name` | a file in these folders has not the name of a rollout | |
  | `:missing_parent` | the home has no file of the thread that this one came from | its id |
  | `:missing_base` | the home has no file with the history before the first line | its id |
  | `:wrong_id` | the first line names another thread than the file name | its id |

  Reasons of `:unreadable`: `:damaged` (compressed content that is cut or invalid), a POSIX error
  such as `:eacces`, `{:not_regular, kind}`.
  """

  @enforce_keys [:kind, :path]
  defstruct [:kind, :path, :session, :detail, count: 1]

  @typedoc "The kind of a problem. See the list above."
  @type kind ::
          :bad_lines
          | :salvaged_lines
          | :long_lines
          | :duplicate
          | :shadowed
          | :empty
          | :unreadable
          | :gone
          | :outside
          | :ignored_name
          | :missing_parent
          | :missing_base
          | :wrong_id

  @typedoc "A problem of a recorded thread. Fields: see above."
  @type t :: %__MODULE__{
          kind: kind(),
          path: Path.t(),
          session: String.t() | nil,
          count: pos_integer(),
          detail: term()
        }

  @doc """
  Returns a problem in words.

      iex> problem = %Codex.Sessions.Problem{kind: :bad_lines, path: "sessions/a.jsonl", count: 2}
      iex> Codex.Sessions.Problem.message(%{problem | detail: 170})
      "sessions/a.jsonl: 2 lines are not whole, the first one at byte 170"
  """
  @spec message(t()) :: String.t()
  def message(%__MODULE__{path: path} = problem), do: "#{printable(path)}: #{words(problem)}"

  defp words(%{kind: :bad_lines, count: 1, detail: at}), do: "a line is not whole, at byte #{at}"

  defp words(%{kind: :bad_lines, count: count, detail: at}),
    do: "#{count} lines are not whole, the first one at byte #{at}"

  defp words(%{kind: :salvaged_lines, count: count}),
    do: "#{count} of the bad lines end with a whole line, which was read"

  defp words(%{kind: :long_lines, count: count}), do: "#{count} lines are longer than 256 MiB"

  defp words(%{kind: :duplicate, detail: read}),
    do: "left out, the live #{printable(read)} counts"

  defp words(%{kind: :shadowed, detail: read}),
    do: "left out, the plain #{printable(read)} counts"

  defp words(%{kind: :empty}), do: "the file is empty"
  defp words(%{kind: :gone}), do: "the file was removed meanwhile"
  defp words(%{kind: :outside}), do: "the link leads out of the home and was not followed"
  defp words(%{kind: :ignored_name}), do: "not the name of a rollout"
  defp words(%{kind: :missing_parent, detail: id}), do: "its parent #{id} is not in the home"
  defp words(%{kind: :missing_base, detail: id}), do: "its history is in #{id}, not in the home"

  defp words(%{kind: :wrong_id, detail: id}),
    do: "its first line names the thread #{printable(id)}"

  defp words(%{kind: :unreadable, detail: :damaged}),
    do: "the compressed content is cut or invalid"

  defp words(%{kind: :unreadable, detail: reason}),
    do: "cannot be read: #{Codex.FileSystem.message(reason)}"

  defp printable(text), do: Codex.Text.line(text)

  defimpl String.Chars do
    def to_string(problem), do: @for.message(problem)
  end
end
