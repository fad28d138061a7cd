defmodule Codex.Prompts do
  @moduledoc """
  Lists and expands prompts: Markdown files with placeholders, in the folder `prompts` of the home.

      {:ok, [prompt | _]} = Codex.Prompts.list()
      {:ok, text} = Codex.Prompts.expand(prompt, "USER=ann FILE='my file'")

  Prompts are a feature of this package alone: the CLI has none, and sends `/prompts:name` to its
  model literally. Run a turn with the expanded text.
  """

  alias Codex.{FileSystem, Home}
  alias Codex.Options.Schema
  alias Codex.Prompts.Words

  @typedoc """
  A prompt: `name` (that of the file without `.md`), `path`, `content` (without the front matter),
  and `description` and `argument_hint` of the front matter, or nil.
  """
  @type prompt :: %{
          name: String.t(),
          path: Path.t(),
          content: String.t(),
          description: String.t() | nil,
          argument_hint: String.t() | nil
        }

  @typedoc """
  The reason of a failed expansion. `type` is `:missing_args` (`missing` lists the names) or
  `:invalid_args` (a word without `=` or without a name, a value of another type, or an open quote).
  """
  @type error :: %{
          required(:type) => :missing_args | :invalid_args,
          required(:message) => String.t(),
          optional(:missing) => [String.t()]
        }

  @schema Schema.new([
            {:dir, :os_path, "the folder", shown: "`prompts` in the CLI's home"},
            {:exclude, {:list, :text}, "names that are left out", default: []},
            {:codex_home, :os_path, "the CLI's home", shown: "see `Codex.Home.resolve/1`"}
          ])

  @doc """
  Lists the prompts by name: `{:ok, prompts}`. Prompts are the regular files that end in `.md`, in
  any case, directly in the folder, with valid UTF-8. A missing folder has none.

  The front matter are the lines between two lines of `---` at the top, such as `description: text`
  and `argument-hint: text`. Without the second line, the whole file is content.

  Options:

  #{Schema.docs(@schema)}

  Errors: a `Codex.Config.Error` about the home, or the reason of the folder (see
  `t:Codex.Reason.file/0`). Raises `Codex.OptionError`.
  """
  @spec list(keyword()) ::
          {:ok, [prompt()]} | {:error, Codex.Config.Error.t() | Codex.Reason.file()}
  def list(opts \\ []) do
    opts = Schema.validate!(@schema, opts)

    with {:ok, dir} <- dir(opts),
         {:ok, names} <- names(dir) do
      paths = for name <- names, name =~ ~r/\.md\z/i, do: Path.join(dir, name)

      prompts =
        for {path, {:ok, text}} <- Enum.zip(paths, FileSystem.read_all(paths)),
            String.valid?(text),
            name = path |> Path.basename() |> String.slice(0..-4//1),
            name not in opts.exclude,
            do: prompt(name, path, text)

      {:ok, Enum.sort_by(prompts, & &1.name)}
    end
  end

  defp dir(%{dir: nil} = opts) do
    with {:ok, home} <- Home.resolve(codex_home: opts.codex_home),
         do: {:ok, Home.path(home, :prompts)}
  end

  defp dir(%{dir: dir}), do: {:ok, Path.expand(dir)}

  defp names(dir) do
    case FileSystem.list(dir) do
      {:error, :enoent} -> {:ok, []}
      result -> result
    end
  end

  defp prompt(name, path, text) do
    {members, content} = front_matter(String.split(text, ~r/\r?\n/), text)

    %{
      name: name,
      path: path,
      content: content,
      description: members["description"],
      argument_hint: members["argument-hint"] || members["argument_hint"]
    }
  end

  defp front_matter([first | lines], text) do
    with "---" <- String.trim(first),
         {inside, [_end | content]} <- Enum.split_while(lines, &(String.trim(&1) != "---")) do
      {Map.new(Enum.flat_map(inside, &member/1)), Enum.join(content, "\n")}
    else
      _none -> {%{}, text}
    end
  end

  defp member(line) do
    case String.split(line, ":", parts: 2) do
      [key, value] -> [{key |> String.trim() |> String.downcase(), unquoted(String.trim(value))}]
      _other -> []
    end
  end

  defp unquoted(value) do
    case Regex.run(~r/\A(["'])(.*)\1\z/su, value) do
      [_, _quote, inside] -> inside
      nil -> value
    end
  end

  @placeholder ~r/(?<!\$)\$(?!ARGUMENTS\b)([A-Z][A-Z0-9_]*)/

  @doc """
  Replaces the placeholders of a prompt or a text: `{:ok, text}` or `{:error, error}`.

  A text with a placeholder such as `$USER` takes **named** arguments: a map, a keyword list, a
  string such as `"USER=ann FILE='my file'"`, or a list of such words. All names are required; `$1`
  and `$ARGUMENTS` stay. Any other text takes **positional** arguments, a string or a list of
  strings: `$1` to `$9` (empty if missing) and `$ARGUMENTS` (all of them). `$$` always stays.

      iex> Codex.Prompts.expand("Greet $1, then $2: $ARGUMENTS", "'Ann B' Bob")
      {:ok, "Greet Ann B, then Bob: Ann B Bob"}
      iex> Codex.Prompts.expand("Review $FILE for $USER", FILE: "a.ex", USER: "Ann")
      {:ok, "Review a.ex for Ann"}
      iex> {:error, %{type: :missing_args, missing: ["USER"]}} =
      ...>   Codex.Prompts.expand("Review $FILE for $USER", "FILE=a.ex")
      iex> Codex.Prompts.expand("Review $1", "'open")
      {:error, %{type: :invalid_args, message: "the arguments have an open quote"}}
  """
  @spec expand(prompt() | String.t(), map() | keyword() | [String.t()] | String.t() | nil) ::
          {:ok, String.t()} | {:error, error()}
  def expand(prompt_or_text, args \\ nil)
  def expand(%{content: content}, args), do: expand(content, args)

  def expand(text, args) when is_binary(text) do
    case for [_, name] <- Regex.scan(@placeholder, text), uniq: true, do: name do
      [] -> positional(text, args)
      names -> named(text, names, args)
    end
  end

  defp named(text, names, args) do
    with {:ok, values} <- pairs(args) do
      case Enum.reject(names, &is_map_key(values, &1)) do
        [] ->
          {:ok, Regex.replace(@placeholder, text, fn _, name -> Map.fetch!(values, name) end)}

        missing ->
          message = "missing arguments: #{Enum.join(missing, ", ")}"
          {:error, %{type: :missing_args, message: message, missing: missing}}
      end
    end
  end

  defp positional(text, args) do
    with {:ok, words} <- words(args) do
      {:ok,
       Regex.replace(~r/\$\$|\$([1-9])|\$ARGUMENTS/, text, fn
         "$$", _ -> "$$"
         "$ARGUMENTS", _ -> Enum.join(words, " ")
         _, digit -> Enum.at(words, String.to_integer(digit) - 1) || ""
       end)}
    end
  end

  defp pairs(args) when is_map(args), do: args |> Map.to_list() |> values()
  defp pairs([{_, _} | _] = args), do: values(args)

  defp pairs(args) do
    with {:ok, words} <- words(args) do
      words |> Enum.map(&named_word/1) |> values()
    end
  end

  defp named_word(word) do
    case String.split(word, "=", parts: 2) do
      [name, value] when name != "" -> {name, value}
      _other -> :error
    end
  end

  defp values(pairs) do
    if Enum.all?(pairs, &pair?/1),
      do: {:ok, Map.new(pairs, fn {name, value} -> {to_string(name), to_string(value)} end)},
      else: invalid("expected arguments of the form NAME=value")
  end

  defp pair?({name, value}),
    do:
      (is_binary(name) or is_atom(name)) and
        (is_binary(value) or is_atom(value) or is_number(value))

  defp pair?(_other), do: false

  defp words(nil), do: {:ok, []}

  defp words(text) when is_binary(text) do
    case Words.split(text) do
      {:ok, words} -> {:ok, words}
      :error -> invalid("the arguments have an open quote")
    end
  end

  defp words(list) when is_list(list) do
    if Enum.all?(list, &is_binary/1),
      do: {:ok, list},
      else: invalid("expected arguments to be strings")
  end

  defp words(_other), do: invalid("expected arguments as a string, a list or a map")

  defp invalid(message), do: {:error, %{type: :invalid_args, message: message}}
end
