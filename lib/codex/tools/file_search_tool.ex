defmodule Codex.Tools.FileSearchTool do
  @moduledoc """
  A host tool that searches for files on this machine, by the glob of their paths and by a regular
  expression in their lines.

  **The tool reads outside the sandbox of the CLI**, with the rights of this VM: for a model, below
  the directory of the option `:base_path` or of the thread.

      {:ok, %{"count" => 1, "files" => [%{"path" => "lib/a.ex", "matches" => [match]}]}} =
        Codex.Tools.FileSearchTool.invoke(
          %{"pattern" => "**/*.ex", "content" => "def run"},
          %{metadata: %{base_path: "/srv/app"}}
        )

  ## Arguments

    * `pattern` - a glob: `*` and `?` do not match `/`, `**` does; `[a-z]` and `{ex,exs}`
    * `content` - a regular expression (that of Rust's crate `regex`). A file is found if one of its
      lines matches
    * `base_path` - the directory to search, relative to the option `:base_path`
    * `max_results` - the most files to return
    * `case_sensitive` - whether `content` distinguishes upper and lower case

  ## Options, in `context.metadata`

    * `:base_path` - the directory that may be searched (default: that of the thread, else of the
      VM; without this option, calls of the host itself may name other directories)
    * `:max_results` - the most files, unless the arguments say less (default 100)
    * `:include_hidden` - whether names that begin with a dot count (default `false`)
    * `:include_ignored` - whether files count that `.gitignore` and `.ignore` name (default
      `false`)
    * `:case_sensitive` - the default of the argument (default `true`)
    * `:timeout_ms` - the time limit of a search, in ms (default 60_000)

  ## Results

  `{:ok, map}` with `"count"` and `"files"`, by their paths: maps with `"path"`, relative to the
  searched directory, and with `content` `"matches"`: maps with `"line"`, its number, and `"text"`.
  `"truncated"` is `true` if something is missing: files beyond the limit,
  more than 1,000 lines of a file or 4 MiB of lines. A line has at most 1,000 bytes. Links are not
  followed. With `content`, files with a NUL byte or more than 16 MiB are left out.
  """
  use Codex.Tool,
    name: "file_search",
    description:
      "Finds files by a glob of their paths, and lines of these files by a regular expression.",
    checks_arguments: true,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "pattern" => %{"type" => "string", "description" => "a glob, such as **/*.ex"},
        "content" => %{"type" => "string", "description" => "a regular expression for lines"},
        "base_path" => %{"type" => "string", "description" => "the directory to search"},
        "max_results" => %{"type" => "integer", "description" => "the most files to return"},
        "case_sensitive" => %{"type" => "boolean"}
      },
      "required" => ["pattern"],
      "additionalProperties" => false
    }

  alias Codex.{Native, NativePool}
  alias Codex.Tools.Hosted

  @timeout 60_000
  @most 100

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc """
  Why there is no result. `{:glob_error, words}`, `{:regex_error, words}`: the pattern or the
  regular expression is invalid. `:path_traversal`: the path leads out of the directory.
  """
  @type reason ::
          {:missing_argument, :pattern}
          | {:invalid_argument, :pattern | :content | :base_path | :max_results | :case_sensitive}
          | {:glob_error, String.t()}
          | {:regex_error, String.t()}
          | :path_traversal
          | Codex.Reason.file()

  @doc "Searches. Blocks until the search is done; it ends early if the caller ends."
  @impl true
  @spec invoke(map(), map()) :: {:ok, map()} | {:error, reason()}
  def invoke(args, context) when is_call(args, context) do
    options = Hosted.options(context)
    whole = &(is_integer(&1) and &1 > 0)
    most = options[:max_results] || @most
    sensitive? = Map.get(options, :case_sensitive, true)

    with {:ok, pattern} <- Hosted.text(args, ["pattern"], :pattern),
         {:ok, content} <- Hosted.optional(args, ["content"], :content, nil, &is_binary/1),
         {:ok, base} <- Hosted.optional(args, ["base_path"], :base_path, ".", &is_binary/1),
         {:ok, wanted} <- Hosted.optional(args, ["max_results"], :max_results, most, whole),
         {:ok, sensitive?} <- sensitive(args, sensitive?),
         :ok <- utf8(pattern, :pattern),
         :ok <- utf8(content || "", :content),
         {:ok, root} <- Hosted.place(context, base) do
      search = %{
        max_results: if(options[:max_results], do: min(wanted, most), else: wanted),
        hidden: options[:include_hidden] == true,
        ignored: options[:include_ignored] == true,
        case_sensitive: sensitive?
      }

      search(root, pattern, content, search, options[:timeout_ms] || @timeout)
    end
  end

  # `false` is an argument, too.
  defp sensitive(args, default) do
    case Map.get(args, "case_sensitive", default) do
      value when is_boolean(value) -> {:ok, value}
      nil -> {:ok, default}
      _other -> {:error, {:invalid_argument, :case_sensitive}}
    end
  end

  defp utf8(text, key),
    do: if(String.valid?(text), do: :ok, else: {:error, {:invalid_argument, key}})

  defp search(root, pattern, content, search, timeout) do
    call = &Native.search_files(&1, &2, root, pattern, content, search)

    with {:ok, {files, truncated?}} <- NativePool.call(call, timeout) do
      files = if content, do: Enum.map(files, &file/1), else: Enum.map(files, &path/1)
      result = %{"count" => length(files), "files" => files}
      {:ok, if(truncated?, do: Map.put(result, "truncated", true), else: result)}
    end
  end

  defp path({path, []}), do: %{"path" => path}

  defp file({path, lines}) do
    matches = for {number, text} <- lines, do: %{"line" => number, "text" => text}
    %{"path" => path, "matches" => matches}
  end

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(term()) :: String.t()
  defdelegate error_text(reason), to: Hosted
end
