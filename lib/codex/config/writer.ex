defmodule Codex.Config.Writer do
  @moduledoc false
  # Changes one configuration file: read, change, check, replace, all under a lock. The CLI takes no
  # lock, so the change is repeated if the file was changed in between.

  alias Codex.Config.{Error, Key, Loader, Schema}
  alias Codex.{FileSystem, Home, JSON, Native}
  alias Codex.Options.{Overrides, Type}
  alias Codex.Options.Schema, as: Options

  @tries 20

  @typedoc "Path, JSON (nil deletes the key), and whether a table is merged."
  @type change :: {[String.t()], String.t() | nil, boolean()}

  @schema Options.new(
            [
              {:codex_home, :os_path, "the CLI's home", shown: "see `Codex.Home.resolve/1`"},
              {:env, :environment, "the environment that `CODEX_HOME` and `HOME` are read from",
               secret: true, shown: "the environment of the VM"},
              {:profile, :any, "the name of a profile, whose file is changed",
               expected: "a string", shown: "the user's `config.toml`"},
              {:expected_version, :text,
               "the version that the file must have, else the error is `:conflict`",
               shown: "any version"},
              {:merge, {:one_of, [:replace, :upsert]}, "the fate of an existing table",
               default: :replace},
              {:timeout, :wait, "the time limit of the wait for another writer", default: 5_000}
            ],
            duplicates: :first
          )

  @doc "Returns the options as a Markdown list."
  @spec docs() :: String.t()
  def docs, do: Options.docs(@schema)

  @doc "Makes all changes or none."
  @spec write([Codex.Config.edit()], keyword()) ::
          {:ok, %{file: Path.t(), version: String.t()}} | {:error, Error.t()}
  def write(edits, opts) do
    opts = Options.validate!(@schema, opts)

    with {:ok, changes} <- changes(edits, opts.merge),
         {:ok, home} <- Home.resolve(codex_home: opts.codex_home, env: opts.env),
         {:ok, file} <- file(home, opts.profile),
         {:ok, file} <- follow(file) do
      opts =
        Map.merge(opts, %{
          file: file,
          changes: changes,
          base: home,
          user_home: user_home(opts.env)
        })

      locked(file, opts.timeout, fn -> replace(opts, @tries) end)
    end
  end

  defp user_home(nil), do: System.user_home() || "/"
  defp user_home(env), do: env["HOME"] || "/"

  defp changes(edits, merge) do
    Enum.reduce_while(Enum.reverse(edits), {:ok, []}, fn edit, {:ok, done} ->
      case change(edit, merge) do
        {:ok, change} -> {:cont, {:ok, [change | done]}}
        error -> {:halt, error}
      end
    end)
  end

  defp change({:delete, key}, _merge), do: {:ok, {Key.parse!(key), nil, false}}
  defp change({:put, key, value}, merge), do: change({:put, key, value, merge}, merge)

  defp change({:put, key, value, merge}, _merge) when merge in [:replace, :upsert] do
    path = Key.parse!(key)

    case Overrides.at(path, value) do
      {:ok, value} -> {:ok, {path, value |> json() |> IO.iodata_to_binary(), merge == :upsert}}
      {:error, path} -> bad_value(path)
    end
  end

  defp change(other, _merge), do: raise(ArgumentError, "not an edit: #{Type.kind(other)}")

  defp json({:table, members}) do
    members = for {name, value} <- members, do: [JSON.encode!(name), ?:, json(value)]
    [?{, Enum.intersperse(members, ?,), ?}]
  end

  defp json({:datetime, text}), do: JSON.encode!(text)

  defp json(list) when is_list(list),
    do: [?[, list |> Enum.map(&json/1) |> Enum.intersperse(?,), ?]]

  defp json(value), do: JSON.encode!(value)

  # The value is not shown: it may be a key or a header.
  defp bad_value(path) do
    message =
      "the value of `#{Key.format(path)}` cannot be written: TOML has no form for it, or a name " <>
        "in it is not allowed"

    {:error, %Error{reason: :bad_value, path: path, message: message}}
  end

  defp file(home, nil), do: {:ok, Home.path(home, :config)}

  defp file(home, profile) do
    if is_binary(profile) and profile =~ ~r/\A[A-Za-z0-9_-]+\z/,
      do: {:ok, Path.join(home, profile <> ".config.toml")},
      else:
        {:error,
         %Error{reason: :bad_profile, message: "a profile cannot be called #{shown(profile)}"}}
  end

  defp shown(name) when is_binary(name), do: inspect(name)
  defp shown(other), do: Type.kind(other)

  # A link stays a link: its target is replaced, with the lock beside the target.
  defp follow(file) do
    with {:error, reason} <- FileSystem.target(file), do: unwritable(file, reason)
  end

  # --- The lock -----------------------------------------------------------------------------------

  defp locked(file, timeout, fun) do
    path = Path.join(Path.dirname(file), ".#{Path.basename(file)}.lock")

    case FileSystem.with_lock(path, timeout, fun) do
      {:ok, result} -> result
      {:error, :held} -> unwritable(file, "another writer holds #{path}")
      {:error, reason} -> unwritable(file, "#{path}: #{FileSystem.message(reason)}")
    end
  end

  # --- The change ---------------------------------------------------------------------------------

  defp replace(%{file: file}, 0), do: unwritable(file, "other programs keep writing to it")

  defp replace(%{file: file} = opts, tries) do
    with {:ok, before} <- Loader.read(file),
         {:ok, old} <- prepare(before, opts),
         :ok <- expected(old, opts),
         {:ok, text} <- edit(before, opts),
         {:ok, new} <- prepare(text, opts),
         :ok <- no_new_error(old, new) do
      case FileSystem.swap(file, before, text) do
        :ok -> {:ok, %{file: file, version: new.version}}
        :moved -> replace(opts, tries - 1)
        {:error, reason} -> unwritable(file, reason)
      end
    end
  end

  defp prepare(text, %{file: file, base: base, user_home: user_home}) do
    with {:ok, tree} <- Loader.parse(file, text) do
      {_tree, _config, version, problems, _dropped} =
        Native.config_prepare(Schema.ref(), tree, base, user_home)

      {:ok, %{version: version, errors: errors(problems, file, text)}}
    end
  end

  defp errors(problems, file, text),
    do: for({:error, error} <- Loader.problems(problems, fn _ -> {file, text} end), do: error)

  defp expected(_old, %{expected_version: nil}), do: :ok
  defp expected(%{version: version}, %{expected_version: version}), do: :ok

  defp expected(%{version: version}, %{file: file, expected_version: expected}) do
    message = "it was changed since it was read: expected version #{expected}, found #{version}"

    {:error,
     %Error{
       reason: :conflict,
       file: file,
       expected: expected,
       found: version,
       message: message
     }}
  end

  defp edit(text, %{file: file, changes: changes}) do
    case Native.config_edit(text, changes, Loader.max_nodes()) do
      {:ok, text} ->
        {:ok, text}

      {:error, {:bad_value, path}} ->
        bad_value(path)

      # prepare/2 has read the text before.
      {:error, :too_large} ->
        {:error, Loader.too_large(file, Loader.max_nodes())}

      {:error, :syntax} ->
        {:error, %Error{reason: :syntax, file: file, message: "it is not TOML"}}
    end
  end

  # Problems that existed before may stay; a change must not add any.
  defp no_new_error(old, new) do
    known = for error <- old.errors, do: {error.path, error.message}

    case Enum.find(new.errors, &({&1.path, &1.message} not in known)) do
      nil -> :ok
      # The line belongs to a text that is not written.
      error -> {:error, %{error | line: nil, column: nil, source_line: nil}}
    end
  end

  defp unwritable(file, words) when is_binary(words) do
    {:error,
     %Error{
       reason: :unwritable,
       file: file,
       found: words,
       message: "it cannot be written: #{words}"
     }}
  end

  defp unwritable(file, reason) do
    {:error, error} = unwritable(file, FileSystem.message(reason))
    {:error, %{error | found: if(is_atom(reason), do: to_string(reason))}}
  end
end
