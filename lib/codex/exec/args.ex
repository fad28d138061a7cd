defmodule Codex.Exec.Args do
  @moduledoc false
  # From options and input to argv, environment and stdin. Pure but for looking whether files exist.

  alias Codex.{CLI, FileSystem, Home, Input, Native}
  alias Codex.Config.Loader
  alias Codex.Exec.{Images, Options, Reach, Secrets, Servers}
  alias Codex.Options.Overrides
  alias Codex.Review.Target

  # What a clean environment keeps.
  @host_env ~w(HOME USER LOGNAME PATH LANG LC_ALL TMPDIR CODEX_HOME XDG_CONFIG_HOME XDG_CACHE_HOME)

  @max_schema FileSystem.max_bytes()

  @enforce_keys [:argv, :env, :clear_env, :stdin, :settings]
  defstruct [
    :argv,
    :env,
    :clear_env,
    :stdin,
    :settings,
    :resume,
    :telemetry,
    :about,
    tokens: [],
    servers: %{}
  ]

  @typedoc """
  An argument that names a file with this content: by its path, as the value of a configuration
  key, or as a profile of the home. With a mark it is no argument: the path takes the place of the
  mark in the others.
  """
  @type file ::
          {:file, iodata(),
           :path | {:config, String.t()} | {:profile, Path.t()} | {:mark, String.t()}}

  @typedoc """
  What is run. `resume` is what the thread that starts must be; any of `tokens` cancels it; `telemetry` is prefix and metadata of what is
  told of the process, or nil; `servers` are the variables of MCP servers.
  """
  @type t :: %__MODULE__{
          argv: [String.t() | file(), ...],
          tokens: [String.t()],
          servers: Servers.envs(),
          env: %{String.t() => String.t() | nil},
          clear_env: boolean(),
          stdin: String.t(),
          settings: map(),
          telemetry: {[atom(), ...], map()} | nil,
          about: Codex.Turn.Running.about() | nil,
          resume: nil | :last | {:fork, String.t()} | String.t()
        }

  @type input :: Input.t()
  @type reason ::
          CLI.path_error()
          | {:invalid_input, term()}
          | {:unsupported_input, :exec}
          | {:input_too_large, pos_integer(), pos_integer()}
          | {:image_not_found, Path.t()}
          | {:image_too_large, Path.t(), pos_integer()}
          | {:invalid_working_directory, Path.t()}
          | Reach.reason()
          | Secrets.reason()
          | {:invalid_config_overrides, term()}
          | {:invalid_profile, String.t()}
          | Codex.Config.Error.t()
          | :conflicting_auto_flags
          | {:invalid_output_schema,
             {:not_encodable, term(), list()} | {:unreadable, Path.t(), String.t()}}
          | Target.reason()

  @doc "The call that does this."
  @spec build({:run, input()} | {:review, Codex.Review.target()}, Options.t()) ::
          {:ok, t()} | {:error, reason()}
  def build({:run, input}, options), do: run(input, options)
  def build({:review, target}, options), do: review(target, options)

  @doc "The call that runs a turn."
  @spec run(input(), Options.t()) :: {:ok, t()} | {:error, reason()}
  def run(input, %Options{} = options) do
    with {:ok, prompt, images} <- input(input),
         images = images ++ options.attachments ++ settings(options)[:images],
         {:ok, images} <- Images.existing(images) do
      resume = resume(options.thread)
      build(options, position(resume, last_args(options) ++ image_args(images)), prompt, resume)
    end
  end

  @doc "The call that runs a review."
  @spec review(Codex.Review.target(), Options.t()) :: {:ok, t()} | {:error, reason()}
  def review(target, %Options{} = options) do
    with :ok <- Target.form(target),
         {:ok, args, stdin} <- target(target),
         :ok <- no_images(options) do
      build(options, ["review" | args], stdin, nil)
    end
  end

  @doc "What counts for the credentials of a run: options of `Codex.Auth`."
  @spec surroundings(t()) :: keyword()
  def surroundings(%__MODULE__{settings: settings} = args) do
    host = if args.clear_env, do: %{}, else: System.get_env()

    [
      env: Map.merge(host, args.env),
      cwd: settings.working_directory,
      profile: settings.profile,
      overrides: oss(settings) ++ overrides_of(args.argv),
      ignore_user_config: "--ignore-user-config" in args.argv
    ]
  end

  # `--oss` is a provider by another name; `ollama` unless it says which.
  defp oss(%{oss: true} = settings),
    do: ["model_provider=" <> (settings.local_provider || "ollama")]

  defp oss(_settings), do: []

  defp overrides_of(["--config", override | rest]) when is_binary(override),
    do: [override | overrides_of(rest)]

  defp overrides_of([_other | rest]), do: overrides_of(rest)
  defp overrides_of([]), do: []

  # `codex exec review` takes none.
  defp no_images(options) do
    if options.attachments ++ settings(options).images == [],
      do: :ok,
      else: {:error, {:unsupported_option, :images}}
  end

  defp build(options, command, stdin, resume) do
    settings = options |> settings() |> made_home()

    with {:ok, program} <- CLI.find(options.codex_opts.codex_path_override),
         :ok <- Home.guard(surrounding_env(settings)),
         :ok <- check_flags(settings),
         :ok <- check_ephemeral(settings, resume),
         :ok <- check_local_provider(settings),
         :ok <- check_directory(settings.working_directory),
         {:ok, settings, overlay} <- overlay(settings),
         {:ok, sent} <- Reach.all(settings),
         :ok <- check_overlay(overlay, sent.flags),
         {:ok, hidden} <- Secrets.hide(Reach.told(sent, settings)),
         {:ok, schema} <- schema(options.output_schema_path, settings.output_schema) do
      args = %__MODULE__{
        argv: [program, "exec", "--json"] ++ overlay ++ sent.flags ++ schema,
        env: env(settings, Map.merge(sent.env, hidden.vars), program),
        clear_env: clear_env?(settings),
        stdin: stdin,
        settings: settings,
        tokens: List.wrap(settings.cancellation_token) ++ List.wrap(options.run_token),
        servers: hidden.servers,
        resume: resume
      }

      with {:ok, args} <- told(args, hidden.overrides),
           do: {:ok, %{args | argv: args.argv ++ command}}
    end
  end

  defp told(%{servers: none} = args, overrides) when none == %{}, do: put(args, overrides)

  # What a server is follows from all that is told, and from the files.
  defp told(args, overrides) do
    with {:ok, all} <- put(args, overrides),
         {:ok, started, file} <- Servers.wrap(args.servers, surroundings(all)),
         {:ok, args} <- put(args, overrides ++ started),
         do: {:ok, %{args | argv: args.argv ++ file}}
  end

  defp put(args, overrides) do
    with {:ok, overrides} <- overrides(overrides),
         do: {:ok, %{args | argv: args.argv ++ overrides}}
  end

  # In a home that this package made, `config.toml` is not the user's but what the caller gave. It
  # counts whatever the isolation: without it the CLI would turn to its built-in provider.
  defp made_home(%{ignore_user_config: ignore, isolation: isolation} = settings)
       when ignore == true or isolation in [:project, :hermetic] do
    with {:ok, home} <- home(settings), true <- Home.made?(home) do
      Map.merge(settings, %{made_home?: true, ignore_user_config: nil})
    else
      _ -> settings
    end
  end

  defp made_home(settings), do: settings

  # As the CLI will find it: variables of `env` win over `codex_home`.
  defp home(settings) do
    env =
      for {name, value} <- surrounding_env(settings), value != nil, into: %{}, do: {name, value}

    Home.resolve(env: env)
  end

  defp surrounding_env(settings) do
    named = if settings.codex_home, do: %{"CODEX_HOME" => settings.codex_home}, else: %{}
    System.get_env() |> Map.merge(named) |> Map.merge(settings.env)
  end

  # What is too long for an argument and has no file of its own stands in a profile that exists for this run: the one that
  # was named, if any, and the text.
  defp overlay(%{developer_instructions: text} = settings) when is_binary(text) do
    if byte_size(text) <= Reach.max_argument() do
      {:ok, settings, []}
    else
      with {:ok, home} <- home(settings),
           {:ok, profile} <- profile(home, settings.profile),
           {:ok, json} <- Codex.JSON.encode(text),
           {:ok, profile} <-
             edit(profile, settings.profile, [{["developer_instructions"], json, false}]) do
        settings = %{settings | profile: nil, developer_instructions: nil}
        {:ok, settings, ["--profile", {:file, profile, {:profile, home}}]}
      end
    end
  end

  defp overlay(settings), do: {:ok, settings, []}

  # The CLI ignores profiles, too.
  defp check_overlay([_ | _], flags) do
    if "--ignore-user-config" in flags,
      do: {:error, {:unsupported_option, :developer_instructions, :ignore_user_config}},
      else: :ok
  end

  defp check_overlay([], _flags), do: :ok

  # The CLI takes a profile without a file for an empty one.
  defp profile(_home, nil), do: {:ok, ""}

  defp profile(home, name) do
    case FileSystem.read(Path.join(home, name <> ".config.toml")) do
      {:ok, text} -> {:ok, text}
      {:error, :enoent} -> {:ok, ""}
      {:error, _} -> {:error, {:invalid_profile, name}}
    end
  end

  defp edit(text, name, edits) do
    with {:error, _not_toml} <- Native.config_edit(text, edits, Loader.max_nodes()),
         do: {:error, {:invalid_profile, name}}
  end

  defp overrides(overrides) do
    {files, told} = Enum.split_with(overrides, &match?({:file, _, _}, &1))

    case Overrides.arguments(told) do
      {:ok, arguments} ->
        files = for {:file, [key], content} <- files, do: {:file, content, {:config, key}}
        {:ok, Enum.flat_map(files ++ arguments, &["--config", &1])}

      {:error, name} ->
        {:error, {:invalid_config_overrides, name}}
    end
  end

  defp settings(%Options{codex_opts: global, thread: thread, turn_opts: turn}),
    do: Reach.settings(global, thread && thread.thread_opts, turn)

  ## Checks

  # One may stand with the thread and the other with the turn.
  defp check_flags(%{full_auto: true, dangerously_bypass_approvals_and_sandbox: true}),
    do: {:error, :conflicting_auto_flags}

  defp check_flags(_settings), do: :ok

  # The CLI accepts the pair, and keeps the turn in the session file of the thread.
  defp check_ephemeral(%{ephemeral: true}, resume) when is_binary(resume) or resume == :last,
    do: {:error, {:unsupported_option, :ephemeral, :resume}}

  defp check_ephemeral(_settings, _resume), do: :ok

  # The CLI accepts it without `--oss`, and uses the provider of the configuration.
  defp check_local_provider(%{local_provider: name, oss: oss}) when name != nil and oss != true,
    do: {:error, {:unsupported_option, :local_provider, :not_oss}}

  defp check_local_provider(_settings), do: :ok

  defp check_directory(nil), do: :ok

  defp check_directory(dir),
    do: if(FileSystem.dir?(dir), do: :ok, else: {:error, {:invalid_working_directory, dir}})

  # A schema's file is made when the run starts.
  defp schema(nil, nil), do: {:ok, []}

  defp schema(nil, schema) do
    case Codex.JSON.encode(schema) do
      {:ok, encoded} -> {:ok, ["--output-schema", {:file, encoded, :path}]}
      {:error, reason} -> {:error, {:invalid_output_schema, reason}}
    end
  end

  # The CLI would wait for a pipe's writer, and read a device without end.
  defp schema(path, _schema) do
    case FileSystem.stat(path) do
      {:ok, %{kind: kind}} when kind != :regular -> unreadable(path, {:not_regular, kind})
      {:ok, %{size: size}} when size > @max_schema -> unreadable(path, {:too_large, @max_schema})
      {:error, :timeout} -> unreadable(path, :timeout)
      _there_or_missing -> {:ok, ["--output-schema", path]}
    end
  end

  defp unreadable(path, reason),
    do: {:error, {:invalid_output_schema, {:unreadable, path, FileSystem.message(reason)}}}

  ## Input

  defp input(text) when is_binary(text) do
    cond do
      not String.valid?(text) -> {:error, {:invalid_input, :not_utf8}}
      text == "" -> {:error, {:invalid_input, ""}}
      true -> with :ok <- Input.fits([text]), do: {:ok, text, []}
    end
  end

  defp input([_ | _] = blocks) do
    if List.improper?(blocks), do: {:error, {:invalid_input, blocks}}, else: blocks(blocks)
  end

  defp input(other), do: {:error, {:invalid_input, other}}

  defp blocks(blocks) do
    Enum.reduce_while(blocks, {:ok, [], []}, fn block, {:ok, texts, images} ->
      case block(block) do
        {:text, text} -> {:cont, {:ok, [text | texts], images}}
        {:image, path} -> {:cont, {:ok, texts, [path | images]}}
        error -> {:halt, error}
      end
    end)
    |> case do
      {:ok, texts, images} ->
        with {:ok, text, []} <- texts |> Enum.reverse() |> Enum.join("\n") |> input(),
             do: {:ok, text, Enum.reverse(images)}

      error ->
        error
    end
  end

  defp block(text) when is_binary(text), do: {:text, text}

  defp block(block) when is_map(block) do
    get = &(Map.get(block, &1) || Map.get(block, Atom.to_string(&1)))

    case {get.(:type), get.(:text), get.(:path)} do
      {type, text, _} when type in [:text, "text"] and is_binary(text) ->
        {:text, text}

      {type, _, path} when type in [:local_image, "local_image"] and is_binary(path) ->
        {:image, path}

      {type, _, _} when type in [:text, "text", :local_image, "local_image"] ->
        {:error, {:invalid_input, block}}

      {type, _, _} when is_atom(type) or is_binary(type) ->
        {:error, {:unsupported_input, :exec}}

      _ ->
        {:error, {:invalid_input, block}}
    end
  end

  defp block(other), do: {:error, {:invalid_input, other}}

  # `-i` takes all that follows: `--` ends it.
  defp image_args([]), do: []
  defp image_args(images), do: Enum.flat_map(images, &["-i", &1])

  ## Which thread

  defp last_args(%{thread: %{resume: :last}} = options) do
    if settings(options).resume_all, do: ["--all"], else: []
  end

  defp last_args(_options), do: []

  defp resume(%{thread_id: id}) when is_binary(id), do: id
  defp resume(%{resume: :last}), do: :last
  defp resume(%{fork_of: id}) when is_binary(id), do: {:fork, id}
  defp resume(_thread), do: nil

  # The prompt is on stdin: `-`. Neither a prompt nor an id can be taken for a flag.
  defp position(nil, images), do: images ++ ["--", "-"]
  defp position(:last, images), do: ["resume", "--last"] ++ images ++ ["--", "-"]
  defp position({:fork, id}, images), do: ["fork"] ++ images ++ ["--", id, "-"]
  defp position(id, images), do: ["resume"] ++ images ++ ["--", id, "-"]

  defp target(all) when all in [:uncommitted_changes, {:uncommitted_changes}],
    do: {:ok, ["--uncommitted"], ""}

  defp target({:base_branch, branch}), do: {:ok, ["--base=" <> branch], ""}
  defp target({:commit, sha}), do: {:ok, ["--commit=" <> sha], ""}
  defp target({:commit, sha, nil}), do: target({:commit, sha})
  defp target({:commit, sha, title}), do: {:ok, ["--commit=" <> sha, "--title=" <> title], ""}
  defp target({:custom, text}), do: target(text)
  defp target(text), do: with({:ok, text, []} <- input(text), do: {:ok, ["-"], text})

  @doc "Texts that must not be shown: secrets of the environment, and variables of MCP servers."
  @spec secrets(t()) :: [String.t()]
  def secrets(%__MODULE__{env: env, clear_env: clear_env, servers: servers}) do
    host = if clear_env, do: %{}, else: System.get_env()
    host |> Map.merge(env) |> Codex.Error.Redact.secrets(servers)
  end

  ## Environment

  defp clear_env?(%{clear_env?: nil, isolation: :hermetic}), do: true
  defp clear_env?(settings), do: settings.clear_env? == true

  defp env(settings, sent, program) do
    host = if clear_env?(settings), do: Map.take(System.get_env(), @host_env), else: %{}
    host |> Map.merge(sent) |> Map.merge(settings.env) |> CLI.put_path(program)
  end
end
