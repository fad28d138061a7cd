defmodule Codex.Logins do
  @moduledoc "Documents of logins, and homes to keep them in."

  @doc "A token with these claims, signed by nobody."
  def jwt(claims) do
    Enum.map_join([%{alg: "none"}, claims, "sig"], ".", fn part ->
      Base.url_encode64(Codex.JSON.encode!(part), padding: false)
    end)
  end

  @doc "A ChatGPT login; `expires_in` seconds."
  def chatgpt(opts \\ []) do
    opts = Keyword.merge([workspace: "acc-1", plan: "pro", expires_in: 86_400], opts)
    now = System.os_time(:second)

    claims = %{
      "email" => "ann@example.com",
      "exp" => now + opts[:expires_in],
      "https://api.openai.com/auth" => %{
        "chatgpt_plan_type" => opts[:plan],
        "chatgpt_account_id" => opts[:workspace],
        "chatgpt_user_id" => "user-1"
      }
    }

    Codex.JSON.encode!(%{
      auth_mode: "chatgpt",
      tokens: %{
        id_token: jwt(claims),
        access_token: jwt(claims),
        refresh_token: "refresh-1",
        account_id: opts[:workspace]
      },
      last_refresh: DateTime.to_iso8601(DateTime.from_unix!(now))
    })
  end

  @doc """
  What a home may hold, with the result of `codex login status`: exit status, and `:api_key`,
  `:chatgpt`, `:bedrock`, nil, or `:error`. From `auth_json.json` of the recorded facts, and more of
  the same kind.
  """
  def states do
    chatgpt = chatgpt()
    tokens = &~s({"tokens":{"id_token":"#{jwt(%{})}",#{&1}}})

    [
      {nil, 1, nil},
      {~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-test-aaaaaaaaaaaaaaaa1234"}), 0, :api_key},
      {~s({"OPENAI_API_KEY":"sk-test-legacy-9999"}), 0, :api_key},
      {~s({"auth_mode":"apikey","OPENAI_API_KEY":"sk-test-dddd"}), 0, :api_key},
      {~s({"OPENAI_API_KEY":"sk-1234567890"}), 0, :api_key},
      {~s({"OPENAI_API_KEY":"sk-12345678901"}), 0, :api_key},
      {~s({"OPENAI_API_KEY":""}), 0, :api_key},
      {~s({"OPENAI_API_KEY":"sk-test-legacy-9999","x":[1]}), 0, :api_key},
      {~s({"OPENAI_API_KEY":"sk-test-legacy-9999",) <>
         String.trim_leading(tokens.(~s("access_token":"a","refresh_token":"r")), "{"), 0,
       :api_key},
      {~s({}), 0, :chatgpt},
      {~s({"OPENAI_API_KEY":null}), 0, :chatgpt},
      {~s({"auth_mode":"chatgpt","OPENAI_API_KEY":"sk-test-aaaaaaaaaaaaaaaa1234"}), 0, :chatgpt},
      {~s({"agent_identity":"xx"}), 0, :chatgpt},
      {chatgpt, 0, :chatgpt},
      {tokens.(~s("access_token":"a","refresh_token":"r")), 0, :chatgpt},
      {~s({"bedrock_api_key":{"api_key":"x","region":"us-east-1"}}), 0, :bedrock},
      {tokens.(~s("access_token":"a")), 1, :error},
      {~s({"auth_mode":"chatgpt","tokens":{"id_token":"x.y.z","access_token":"a","refresh_token":"r"}}),
       1, :error},
      {~s({"OPENAI_API_KEY":5}), 1, :error},
      {~s({"OPENAI_API_KEY":"k","last_refresh":"nope"}), 1, :error},
      {~s({"auth_mode":"bogus"}), 1, :error},
      # Duplicates of known members, and unknown members.
      {~s({"OPENAI_API_KEY":"k","OPENAI_API_KE\\u0059":"l"}), 1, :error},
      {~s({"OPENAI_API_KEY":"k","tokens":null,"tokens":null}), 1, :error},
      {tokens.(~s("access_token":"a","access_token":"a","refresh_token":"r")), 1, :error},
      {~s({"bedrock_api_key":{"api_key":"x","region":"r","region":"r"}}), 1, :error},
      {~s({"bedrock_api_key":{"api_key":"x"}}), 1, :error},
      {~s({"OPENAI_API_KEY":"sk-12345678901","z":1e400,"z":"\\ud800","y":{"a":1,"a":2}}), 0,
       :api_key},
      {tokens.(~s("access_token":"a","refresh_token":"r","z":1e400,"z":2)), 0, :chatgpt},
      {~s([]), 1, :error},
      {~s({nope), 1, :error},
      {" ", 1, :error}
    ]
  end

  @doc """
  A home whose configuration lets the CLI reach nothing but `url`, which is a port that nobody
  listens at unless given.
  """
  def home!(dir, config \\ "", url \\ "http://127.0.0.1:9") do
    home = Path.join(dir, "home")
    File.mkdir_p!(home)

    File.write!(Path.join(home, "config.toml"), """
    analytics.enabled = false
    features.plugins = false
    features.apps = false
    features.unbounded_connection_retries = false
    chatgpt_base_url = "#{url}/backend-api"
    model_provider = "mock"
    model = "codex-test"
    model_providers.mock.name = "mock"
    model_providers.mock.base_url = "#{url}/v1"
    model_providers.mock.requires_openai_auth = true
    model_providers.mock.request_max_retries = 0
    model_providers.mock.stream_max_retries = 0
    #{config}
    """)

    home
  end

  def put!(home, nil), do: File.rm(Path.join(home, "auth.json"))
  def put!(home, document), do: File.write!(Path.join(home, "auth.json"), document)

  @doc "Options for `Codex.Login` and the environment of a command, without keys of the VM."
  def env(home, more \\ %{}) do
    Map.merge(
      %{
        "CODEX_HOME" => home,
        "HOME" => Path.dirname(home),
        "PATH" => System.get_env("PATH"),
        "NO_PROXY" => "127.0.0.1",
        # The CLI tells the issuer when it gives up tokens, and asks it for new ones: here there is
        # nobody.
        "CODEX_REVOKE_TOKEN_URL_OVERRIDE" => "http://127.0.0.1:9/revoke",
        "CODEX_REFRESH_TOKEN_URL_OVERRIDE" => "http://127.0.0.1:9/token"
      },
      more
    )
  end
end
