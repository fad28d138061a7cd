defmodule Codex.Tools.ApplyPatchTool do
  @moduledoc """
  A host tool that changes files as the CLI's tool `apply_patch` does.

  **The tool writes outside the sandbox of the CLI**, with the rights of this VM. Without the option
  `:approval`, it denies every patch.

      {:ok, result} =
        Codex.Tools.ApplyPatchTool.invoke(
          %{"input" => "*** Begin Patch\\n*** Add File: notes.txt\\n+Hello\\n*** End Patch"},
          %{metadata: %{base_path: "/srv/work", approval: fn _changes -> :allow end}}
        )

  The CLI has a tool `apply_patch` itself, so a thread needs another name:

      tools: [{Codex.Tools.ApplyPatchTool, name: "patch_files", approval: &MyApp.Review.patch/1}]

  ## Patches

  A patch is the text between `*** Begin Patch` and `*** End Patch`, with the grammar and the
  matching of the CLI, or a unified diff. A diff applies only if its context matches exactly, at the
  stated line or at the nearest other place.

  The tool reads and matches all files before it writes. It writes all files or none: a failed write
  takes the others back. A file keeps its line ends and its mode, also if it moves. Refused are
  absolute paths, `..`, links that lead out of the base directory, two operations on one path, a
  move of a file onto itself, and files that are not UTF-8 or have more than 16 MiB.

  A killed VM may leave a part of a patch, and old files named `.codex_patch_…`.

  ## Arguments

    * `input` (or `patch`) - the patch
    * `base_path` - the directory of the patch's paths, relative to the option `:base_path`

  ## Options, in `context.metadata`

    * `:base_path` - the directory that the tool may change (default: the current directory)
    * `:approval` - decides each patch: a function of the changes; of changes and context; or of
      changes, context and metadata; or a module with `review_patch/2`. The changes are maps with
      `path`, `kind`, `hunk_count`, `additions`, `deletions`, and `move_to` if the file moves.
      `:ok`, `:allow` and `{:allow, term}` allow; `:deny`, `false` and `{:deny, reason}` deny
    * `:dry_run` - matches the patch and writes nothing (default `false`). Needs no approval
    * `:timeout_ms` - the time limit of reading and writing, in ms (default 60_000)

  ## Results

  `{:ok, map}` with `"applied"` and `"validated"` (numbers of changes) and `"files"`: maps with
  `"path"`, `"kind"`, `"move_path"` if the file moves, and `"dry_run"` if nothing was written. Paths
  are absolute.
  """
  use Codex.Tool,
    name: "apply_patch",
    description: """
    Changes files. The patch begins with the line "*** Begin Patch" and ends with the line \
    "*** End Patch". Between them: "*** Add File: path" and lines with "+"; \
    "*** Delete File: path"; "*** Update File: path", optionally "*** Move to: path", then hunks. \
    A hunk is "@@" or "@@ line before the hunk", then lines with " " (context), "-" (removed) or \
    "+" (added). Paths are relative. Unified diffs work, too.\
    """,
    parameters: %{
      "type" => "object",
      "properties" => %{
        "input" => %{"type" => "string", "description" => "the patch"},
        "patch" => %{"type" => "string", "description" => "another name of input"},
        "base_path" => %{"type" => "string", "description" => "the directory of the paths"}
      },
      "additionalProperties" => false
    }

  alias Codex.Error.Words
  alias Codex.{FileSystem, Native, NativePool}
  alias Codex.Tools.Hosted

  @timeout 60_000

  import Codex.Tools.Hosted, only: [is_call: 2]

  @typedoc """
  A changed place of a file. `start` is the line number of a diff's hunk, and nil in the other
  form. `old_unended` and `new_unended`: the last old or new line has no line end.
  """
  @type hunk :: %{
          anchor: String.t() | nil,
          start: non_neg_integer() | nil,
          lines: [{:context | :add | :remove, String.t()}],
          end_of_file: boolean(),
          old_unended: boolean(),
          new_unended: boolean()
        }

  @typedoc """
  The change of a file. In the form `:apply_patch`, an added file has `content` (its lines), and an
  updated one `segments` and `move_to`. Changes of a diff have `hunks` and `move_to`.
  """
  @type change :: %{
          required(:format) => :apply_patch | :unified_diff,
          required(:kind) => :add | :delete | :update,
          required(:path) => String.t(),
          optional(:content) => [String.t()],
          optional(:segments) => [hunk()],
          optional(:hunks) => [hunk()],
          optional(:move_to) => String.t() | nil
        }

  @typedoc """
  Why hunks do not fit a file, or a file is not changed. The strings are for people and models;
  other atoms are POSIX errors, such as `:enoent`.
  """
  @type refusal ::
          {:context_mismatch, String.t()}
          | {:missing_anchor, String.t()}
          | :absolute_path_not_allowed
          | :path_traversal
          | :invalid_path
          | :multiple_operations
          | :move_onto_itself
          | :is_a_directory
          | :not_a_file
          | :not_text
          | :file_too_large
          | :changed
          | atom()

  @typedoc "Why a patch is not applied. A refusal has the path as the patch states it."
  @type reason ::
          {:missing_argument, :patch}
          | {:invalid_argument, :patch | :base_path}
          | {:empty_patch, String.t()}
          | {:parse_error, String.t()}
          | {String.t(), refusal()}
          | {:approval_denied, term()}
          | {:invalid_approval_response, term()}
          | :timeout
          | {:native, String.t()}

  @doc """
  Applies a patch. Blocks until the files are written. See the module for arguments, options and
  results.
  """
  @impl true
  @spec invoke(map(), map()) :: {:ok, map()} | {:error, reason()}
  def invoke(args, context) when is_call(args, context) do
    metadata = Map.new(context[:metadata] || %{})

    with {:ok, text} <- text(args),
         {:ok, folder} <- folder(args),
         {:ok, root} <- root(metadata),
         {:ok, changes} <- parse(text),
         {:ok, checked} <- apply(root, folder, text, true, metadata) do
      if metadata[:dry_run] == true,
        do: {:ok, result(checked, true)},
        else: write({root, folder, text}, changes, context, metadata)
    end
  end

  defp write({root, folder, text}, changes, context, metadata) do
    with :ok <- approved(changes, context, metadata),
         {:ok, applied} <- apply(root, folder, text, false, metadata),
         do: {:ok, result(applied, false)}
  end

  @doc """
  Reads a patch into its changes.

      iex> patch = "*** Begin Patch\\n*** Add File: a\\n+1\\n*** End Patch"
      iex> Codex.Tools.ApplyPatchTool.parse_patch(patch)
      {:ok, [%{format: :apply_patch, kind: :add, path: "a", content: ["1"]}]}
      iex> Codex.Tools.ApplyPatchTool.parse_patch("*** Begin Patch")
      {:error, {:parse_error, "invalid patch: The last line of the patch must be '*** End Patch'"}}
  """
  @spec parse_patch(String.t()) :: {:ok, [change()]} | {:error, reason()}
  def parse_patch(text) when is_binary(text) do
    with {:ok, changes} <- parse(text), do: {:ok, Enum.map(changes, &change/1)}
  end

  @doc """
  Applies hunks of `parse_patch/1` (`segments` or `hunks`) to the content of a file.

      iex> patch = "*** Begin Patch\\n*** Update File: a\\n@@\\n-1\\n+2\\n*** End Patch"
      iex> {:ok, [change]} = Codex.Tools.ApplyPatchTool.parse_patch(patch)
      iex> Codex.Tools.ApplyPatchTool.apply_hunks("1\\r\\n", change.segments)
      {:ok, "2\\r\\n"}
  """
  @spec apply_hunks(String.t(), [hunk()]) :: {:ok, String.t()} | {:error, refusal()}
  def apply_hunks(content, hunks) when is_binary(content) and is_list(hunks),
    do: NativePool.call(&Native.patch_edit(&1, &2, content, hunks))

  @doc "Returns the words for the model about a failure."
  @impl true
  @spec error_text(reason()) :: String.t()
  def error_text({:context_mismatch, words}), do: words
  def error_text({:missing_anchor, words}), do: words
  def error_text({:parse_error, words}), do: "apply_patch verification failed: #{words}"
  def error_text({:empty_patch, words}), do: "apply_patch verification failed: #{words}"
  def error_text({:approval_denied, _reason}), do: "the patch was denied; nothing was written"
  def error_text({:invalid_approval_response, _}), do: error_text({:approval_denied, nil})

  def error_text({path, refusal}) when is_binary(path),
    do: "apply_patch verification failed: #{path}: #{refusal_text(refusal)}"

  def error_text(reason), do: Words.reason(reason) || "the patch was not applied"

  defp refusal_text({_tag, words}), do: words
  defp refusal_text(atom), do: Words.reason(atom) || FileSystem.message(atom)

  # --- Steps ----------

  defp text(args) do
    case args["input"] || args["patch"] do
      nil -> {:error, {:missing_argument, :patch}}
      text when is_binary(text) -> {:ok, text}
      _other -> {:error, {:invalid_argument, :patch}}
    end
  end

  defp folder(args) do
    case args["base_path"] do
      nil -> {:ok, ""}
      path when is_binary(path) -> relative(path, Path.type(path))
      _other -> {:error, {:invalid_argument, :base_path}}
    end
  end

  defp relative(path, :relative), do: {:ok, path}
  defp relative(_path, _type), do: {:error, {:invalid_argument, :base_path}}

  defp root(metadata) do
    with {:ok, here} <- FileSystem.cwd(), do: {:ok, Path.expand(metadata[:base_path] || here)}
  end

  defp parse(text) do
    if String.trim(text) == "",
      do: {:error, {:empty_patch, "the patch is empty"}},
      else: NativePool.call(&Native.patch_parse(&1, &2, text))
  end

  defp apply(root, folder, text, dry_run?, metadata) do
    timeout = metadata[:timeout_ms] || @timeout
    NativePool.call(&Native.patch_apply(&1, &2, root, folder, text, dry_run?), timeout)
  end

  defp change({:apply_patch, :add, path, _move_to, hunks, _added, _removed}) do
    content = for hunk <- hunks, {:add, line} <- hunk.lines, do: line
    %{format: :apply_patch, kind: :add, path: path, content: content}
  end

  defp change({:apply_patch, :delete, path, _move_to, _hunks, _added, _removed}),
    do: %{format: :apply_patch, kind: :delete, path: path}

  defp change({:apply_patch, kind, path, move_to, hunks, _added, _removed}),
    do: %{format: :apply_patch, kind: kind, path: path, move_to: move_to, segments: hunks}

  defp change({:unified_diff, kind, path, move_to, hunks, _added, _removed}),
    do: %{format: :unified_diff, kind: kind, path: path, move_to: move_to, hunks: hunks}

  defp approved(changes, context, metadata) do
    changes = Enum.map(changes, &summary/1)
    Hosted.approve(metadata[:approval], :review_patch, changes, context)
  end

  defp summary({_format, kind, path, move_to, hunks, added, removed}) do
    hunks = if kind == :update, do: length(hunks), else: 0
    summary = %{path: path, kind: kind, hunk_count: hunks, additions: added, deletions: removed}
    if move_to, do: Map.put(summary, :move_to, move_to), else: summary
  end

  defp result(files, dry_run?) do
    files = Enum.map(files, &file(&1, dry_run?))
    count = length(files)
    %{"applied" => if(dry_run?, do: 0, else: count), "validated" => count, "files" => files}
  end

  defp file({kind, path, move_path}, dry_run?) do
    file = %{"path" => path, "kind" => Atom.to_string(kind)}
    file = if move_path, do: Map.put(file, "move_path", move_path), else: file
    if dry_run?, do: Map.put(file, "dry_run", true), else: file
  end
end
