defmodule Codex.Doctor.Machine do
  @moduledoc false
  # Checks the places of a run: the home, the working directory and the environment.

  alias Codex.CLI.Program
  alias Codex.Config.Project
  alias Codex.Doctor.{Check, Context}
  alias Codex.{FileSystem, Home}

  # --- The home ---------------------------------------------------------------------------------

  def home(context) do
    env = Context.env(context)

    with {:ok, home} <- Home.resolve(codex_home: context.codex_home, env: env),
         # Raw: without the file server.
         {:stat, _home, {:ok, info}} <- {:stat, home, :file.read_file_info(home, [:raw])} do
      judge_home(home, File.Stat.from_record(info), user_id(), temporary(env))
    else
      {:error, error} -> {:error, Exception.message(error)}
      {:stat, home, {:error, why}} -> {:error, "#{home}: #{:file.format_error(why)}"}
    end
  end

  @doc "Judges a directory as a home. `user` is the id of the user, or nil if it is not known."
  def judge_home(home, stat, user, temporary) do
    writable? = stat.access in [:write, :read_write]
    foreign? = user != nil and stat.uid != user
    temporary? = String.starts_with?(home <> "/", String.trim_trailing(temporary, "/") <> "/")

    problems =
      for {true, status, text} <- [
            {not writable?, :error, "it cannot be written; the CLI keeps sessions there"},
            {foreign?, :warning, "it belongs to user #{stat.uid}, and this is user #{user}"},
            {temporary?, :warning,
             "it is in #{temporary}: the CLI puts no helper programs there, " <>
               "and warns on stderr in each run"}
          ],
          do: %{status: status, text: text}

    mode = stat.mode |> rem(0o1000) |> Integer.to_string(8) |> String.pad_leading(3, "0")

    facts = %{
      text: "owner #{stat.uid}, mode #{mode}",
      path: home,
      owner: stat.uid,
      mode: mode,
      writable: writable?,
      temporary: temporary?
    }

    {Check.worst(problems), home, [facts | problems], home: home}
  end

  # The rule of Rust's standard library, which the CLI uses.
  defp temporary(env) do
    case env["TMPDIR"] do
      empty when empty in [nil, ""] -> "/tmp"
      dir -> Path.expand(dir)
    end
  end

  # Neither Elixir nor OTP has a function for the id of the user.
  defp user_id do
    with program when is_binary(program) <- System.find_executable("id"),
         {text, 0} <- System.cmd(program, ["-u"], stderr_to_stdout: true),
         {uid, _} <- Integer.parse(text),
         do: uid,
         else: (_ -> nil)
  end

  # --- The working directory --------------------------------------------------------------------

  def directory(context) do
    case expand(context.cwd) do
      {:ok, dir} ->
        {status, detail} = repository(Project.find(dir, %{}), context.skip_git_repo_check)
        {status, dir, [Map.put(detail, :path, dir)], directory: dir}

      {:error, why} ->
        {:error, why}
    end
  end

  defp expand(nil) do
    with {:error, why} <- File.cwd(),
         do: {:error, "the current directory: #{:file.format_error(why)}"}
  end

  defp expand(path) do
    path = Path.expand(path)
    if FileSystem.dir?(path), do: {:ok, path}, else: {:error, "#{path} is not a directory"}
  end

  defp repository(%{repository: nil}, true),
    do: {:ok, %{text: "it is in no Git repository; skip_git_repo_check is set", repository: nil}}

  # The trust level of a directory does not matter here.
  defp repository(%{repository: nil}, false) do
    text = "it is in no Git repository: `codex exec` needs the option skip_git_repo_check there"
    {:error, %{status: :error, text: text, repository: nil}}
  end

  defp repository(%{root: root}, _skip),
    do: {:ok, %{text: "Git repository #{root}", repository: root}}

  # --- The environment --------------------------------------------------------------------------

  # The variables that the CLI or this package reads.
  @variables [
    {"CODEX_PATH", :ok, "the program"},
    {"CODEX_BINARY", :ok, "the program, if CODEX_PATH does not name it"},
    {"CODEX_HOME", :ok, "the home"},
    {"CODEX_SQLITE_HOME", :ok, "the directory of the CLI's databases"},
    {"CODEX_API_KEY", :ok, "pays for `codex exec`"},
    {"CODEX_ACCESS_TOKEN", :ok, "pays instead of the login"},
    {"OPENAI_API_KEY", :ok, "the CLI does not look at it, unless a provider does (env_key)"},
    {"CODEX_MODEL", :ok, "the model that Codex.Models.default_model/1 returns"},
    {"OPENAI_DEFAULT_MODEL", :ok, "the same, unless CODEX_MODEL is set"},
    {"CODEX_MODEL_DEFAULT", :ok, "the same, unless CODEX_MODEL or OPENAI_DEFAULT_MODEL is set"},
    {"CODEX_CA_CERTIFICATE", :ok, "the trusted certificates"},
    {"SSL_CERT_FILE", :ok, "the trusted certificates"},
    {"HTTP_PROXY", :ok, "requests go through it"},
    {"HTTPS_PROXY", :ok, "requests go through it"},
    {"ALL_PROXY", :ok, "requests go through it"},
    {"NO_PROXY", :ok, "the requests that go through no proxy"},
    {"CODEX_REFRESH_TOKEN_URL_OVERRIDE", :ok, "the URL that renews tokens"},
    {"CODEX_REVOKE_TOKEN_URL_OVERRIDE", :ok, "the URL that revokes tokens"},
    {"CODEX_INTERNAL_ORIGINATOR_OVERRIDE", :ok, "the originator that requests name"},
    {"RUST_LOG", :ok, "the messages of the CLI on stderr"},
    {"CODEX_SDK_NATIVE_DIR", :ok,
     "`mix compile` takes the Rust library and the launcher from it and builds neither"},
    {"CODEX_SDK_KEYRING", :ok, "whether `mix compile` builds the keyring in"},
    {"CODEX_SANDBOX", :warning, "this runs in Codex's own sandbox"},
    {"CODEX_SANDBOX_NETWORK_DISABLED", :warning,
     "this runs in Codex's own sandbox, without network"}
  ]
  @proxies ~w(http_proxy https_proxy all_proxy no_proxy)

  def environment(context) do
    names = for {name, value} <- Enum.sort(Context.env(context)), value != "", do: name
    {known, others} = Enum.split_with(names, &variable/1)
    others = Enum.filter(others, &String.starts_with?(&1, "CODEX_"))
    details = Enum.map(known, &described/1) ++ Enum.map(others, &unknown/1)
    {Check.worst(details), environment_summary(details), details}
  end

  defp variable(name) when name in @proxies, do: name |> String.upcase() |> variable()
  defp variable(name), do: List.keyfind(@variables, name, 0)

  defp described(name) do
    {_name, status, meaning} = variable(name)
    detail = %{text: "#{name}: #{meaning}", name: name}
    if status == :ok, do: detail, else: Map.put(detail, :status, status)
  end

  defp unknown(name) do
    text = "#{name}: neither this package nor CLI #{Program.tested_version()} reads it"
    %{text: text, name: name}
  end

  defp environment_summary([]), do: "no variable that changes anything is set"
  defp environment_summary([_]), do: "1 variable that changes something is set"

  defp environment_summary(details),
    do: "#{length(details)} variables that change something are set"
end
