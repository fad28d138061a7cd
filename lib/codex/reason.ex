defmodule Codex.Reason do
  @moduledoc """
  Types of the reasons that several functions return as `{:error, reason}`, and that are neither a
  `Codex.Error` nor another exception.

  `Codex.Error.normalize/1` turns each of them into a `Codex.Error` with a kind and a message. The
  types of a function (for example `t:Codex.Exec.reason/0`) name those that it returns.
  """

  @typedoc """
  An option that a run cannot use:

    * `Codex.OptionError` - the option is unknown, or its value is invalid
    * `{:unsupported_option, option}`, `{:unsupported_option, option, detail}` - the transport or
      the CLI does not support the option, or not with this value
    * `{:dangerous, option}` - the option needs `dangerous: true`, too
    * `{:invalid_tool, module, refusal}` - the thread cannot have this tool
  """
  @type option ::
          Codex.OptionError.t()
          | {:unsupported_option, atom()}
          | {:unsupported_option, atom(), term()}
          | {:dangerous, atom()}
          | {:invalid_tool, module() | String.t() | term(), Codex.Tools.refusal()}

  @typedoc """
  A CLI that cannot be started: `codex` is not on the `PATH`, or the given path does not exist, is
  not a regular file, or is not executable.
  """
  @type program ::
          :codex_binary_not_found
          | {:codex_binary_missing, Path.t()}
          | {:codex_binary_not_regular, Path.t()}
          | {:codex_binary_not_executable, Path.t()}

  @typedoc """
  Methods, options or flags that the found version of the CLI lacks: their names, the first version
  that has them, and the version found.
  """
  @type unsupported_cli ::
          {:cli_unsupported, names :: [String.t()], since :: String.t(), found :: String.t()}

  @typedoc """
  A file that was not read or written:

    * `{:not_regular, type}` - it is a directory, a pipe, a socket or a device
    * `{:too_large, limit}` - it is longer than the limit, in bytes
    * `:timeout` - the file system did not answer in time
    * `{:native, words}` - the native library is not loaded, or has no thread for the call
    * a POSIX error, such as `:enoent`; `:unknown` is an error number without a name
  """
  @type file ::
          {:not_regular, :regular | :directory | :pipe | :socket | :device | :other}
          | {:too_large, pos_integer()}
          | :timeout
          | {:native, String.t()}
          | :file.posix()

  @typedoc """
  An input that is not sent:

    * `{:invalid_input, value}` - it has the wrong shape, or is not UTF-8 (`:not_utf8`)
    * `{:input_too_large, size, limit}` - in characters of text or bytes
    * `{:image_not_found, path}` - there is no such file, or it is not an image
    * `{:image_too_large, path, limit}` - in bytes
  """
  @type input ::
          {:invalid_input, term()}
          | {:input_too_large, pos_integer(), pos_integer()}
          | {:image_not_found, Path.t()}
          | {:image_too_large, Path.t(), pos_integer()}

  @typedoc """
  An output schema that is not JSON, a schema file that cannot be read, or a schema without a strict
  form (option `output`).
  """
  @type output_schema ::
          {:invalid_output_schema,
           {:not_encodable, term(), list()} | {:unreadable, Path.t(), String.t()}}
          | Codex.Schema.invalid()

  @typedoc """
  A review target of the wrong form, or a target that Git does not have. `details` are Git's own
  words, if it printed any:

    * `:no_repository` - `directory` is in no repository, or Git does not trust it
    * `:no_branch`, `:no_commit` - the repository has no such branch or commit
    * `:no_answer` - Git did not answer in time
  """
  @type review_target :: {:invalid_review_target, missing_target() | term()}

  @typedoc "A review target that Git does not have. See `t:review_target/0`."
  @type missing_target :: %{
          target: Codex.Review.target(),
          reason: :no_repository | :no_branch | :no_commit | :no_answer,
          directory: Path.t(),
          details: String.t() | nil
        }

  @typedoc """
  A run of `codex exec` that was not started. Besides other types of this module:

    * `{:unsupported_input, :exec}` - blocks of a kind that only an app-server takes
    * `{:invalid_working_directory, path}` - there is no such directory
    * `{:invalid_profile, name}`, `Codex.Config.Error` - the profile or the configuration cannot be
      read
  """
  @type command ::
          program()
          | unsupported_cli()
          | input()
          | option()
          | output_schema()
          | review_target()
          | {:unsupported_input, :exec}
          | {:invalid_working_directory, Path.t()}
          | {:invalid_profile, String.t()}
          | Codex.Config.Error.t()

  @typedoc "A turn that does not run: the thread has no id, or no turn with this thread id runs."
  @type turn :: :missing_thread_id | {:no_turn, String.t()}

  @typedoc """
  A credential that a rule of the configuration forbids: the rule, the allowed value, and the value
  found. `codex exec` would delete the stored login in this case.
  """
  @type login_rule ::
          {:forced_login_method, :chatgpt | :api, :chatgpt | :api_key}
          | {:forced_chatgpt_workspace_id, [String.t()], String.t() | nil}

  @typedoc "A store of credentials that cannot be read or written. See `t:Codex.Auth.reason/0`."
  @type store ::
          :keyring_unavailable
          | :encrypted_store
          | {:keyring, :locked | :timeout | :ambiguous | :other, String.t()}
          | {:invalid_credentials, Codex.Auth.Credentials.source(), String.t()}
          | {:unreadable, Path.t(), String.t()}
          | {:lock_held, Path.t()}
          | {:native, String.t()}

  @typedoc """
  A socket of an app-server that was not opened:

    * `{:not_connected, cause}` - a POSIX error, `:closed`, or `{:tls, alert, words}`
    * `{:ca_certificate, path, cause}` - the file of certificates cannot be read or has none
    * `{:handshake_refused, status, text}` - the HTTP answer of a server that refused
    * `{:not_a_websocket, text}` - the answer is not a WebSocket handshake
    * `{:init_timeout, ms}` - the server did not answer in time
    * `Codex.OptionError` - an address or an option is invalid
  """
  @type socket ::
          {:not_connected, :inet.posix() | :closed | {:tls, atom(), String.t()}}
          | {:ca_certificate, Path.t(), file() | :no_certificate}
          | {:handshake_refused, status :: 100..599, text :: String.t()}
          | {:not_a_websocket, String.t()}
          | {:init_timeout, pos_integer()}
          | Codex.OptionError.t()
end
