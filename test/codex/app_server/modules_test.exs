defmodule Codex.AppServer.ModulesTest do
  # What stands beside the methods: MCP servers, accounts, and the first version of the protocol.
  use ExUnit.Case, async: true

  alias Codex.AppServer.{Account, Mcp, V1}
  alias Codex.Recorder

  setup context do
    {:ok, conn} = Recorder.start_link(Map.take(context, [:answer]) |> Map.to_list())
    %{conn: conn}
  end

  defp sent do
    assert_received {:request, method, params, _opts}
    {method, params}
  end

  test "MCP servers and logins to them", %{conn: conn} do
    assert {:ok, %{}} = Mcp.list_servers(conn)
    assert sent() == {"mcpServerStatus/list", %{}}
    assert {:ok, %{}} = Mcp.list_server_statuses(conn, cursor: "c", limit: 2)
    assert sent() == {"mcpServerStatus/list", %{"cursor" => "c", "limit" => 2}}
    assert {:ok, %{}} = Mcp.oauth_login(conn, name: "n", scopes: ["s"], timeout_secs: 9)

    assert sent() ==
             {"mcpServer/oauth/login", %{"name" => "n", "scopes" => ["s"], "timeoutSecs" => 9}}

    assert {:error, %Codex.OptionError{reason: :missing, path: [:name]}} =
             Mcp.oauth_login(conn, scopes: [])

    assert {:error, %Codex.OptionError{reason: :unknown, path: [:limits], nearest: :limit}} =
             Mcp.list_servers(conn, limits: 2)

    refute_received {:request, _, _, _}
  end

  for {name, error} <- [
        code: %{"code" => -32601, "message" => "no"},
        words: %{
          "code" => -32600,
          "message" =>
            "Invalid request: unknown variant `mcpServerStatus/list`, expected one of `initialize`"
        }
      ] do
    @tag answer: {:error, error}
    test "an older server is asked for them as it knows it (#{name})", %{conn: conn} do
      assert {:error, %{"code" => _}} = Mcp.list_servers(conn, limit: 2)
      assert sent() == {"mcpServerStatus/list", %{"limit" => 2}}
      assert sent() == {"mcpServers/list", %{"limit" => 2}}
    end
  end

  @tag answer: {:error, %{"code" => -32600, "message" => "Not initialized"}}
  test "any other error is the answer", %{conn: conn} do
    assert {:error, %{"message" => "Not initialized"}} = Mcp.list_servers(conn)
    assert {"mcpServerStatus/list", %{}} = sent()
    refute_received {:request, _, _, _}
  end

  test "accounts", %{conn: conn} do
    key = %{"type" => "apiKey", "apiKey" => "sk-test"}

    for {login, wire} <- [
          {:chatgpt, %{"type" => "chatgpt"}},
          {"chatgpt", %{"type" => "chatgpt"}},
          {{:api_key, "sk-test"}, key},
          {%{"type" => "api_key", "apiKey" => "sk-test"}, key},
          {%{type: :api, api_key: "sk-test"}, key},
          {[type: "apiKey", api_key: "sk-test"], key},
          {:chatgpt_device_code, %{"type" => "chatgptDeviceCode"}}
        ] do
      assert {:ok, %{}} = Account.login_start(conn, login)
      assert sent() == {"account/login/start", wire}
    end

    for key <- [nil, "", " "] do
      for login <- [{:api_key, key}, %{"type" => "api", "apiKey" => key}] do
        assert {:error, %Codex.OptionError{key: :api_key}} = Account.login_start(conn, login)
      end
    end

    for key <- ["", " "] do
      login = &Codex.AppServer.account_login_start(conn, &1)
      empty = login.(type: "apiKey", api_key: key)
      assert {:error, %Codex.OptionError{key: :api_key}} = empty
      assert login.(%{"type" => "apiKey", "apiKey" => key}) == empty

      tokens = %{type: "chatgptAuthTokens", access_token: key, chatgpt_account_id: "a"}
      assert {:error, %Codex.OptionError{key: :access_token}} = login.(tokens)
    end

    assert Account.login_start(conn, :google) == {:error, {:invalid_login_type, :google}}
    assert Account.login_start(conn, %{type: 7}) == {:error, {:invalid_login_type, 7}}

    assert {:error, %Codex.OptionError{reason: :missing, path: [:type]}} =
             Account.login_start(conn, %{api_key: "sk-marked"})

    refute inspect(Account.login_start(conn, ["sk-marked"])) =~ "marked"
    refute inspect(Account.login_start(conn, {:api_key, ["sk-marked"]})) =~ "marked"
    refute_received {:request, _, _, _}

    assert {:ok, %{}} = Account.login_cancel(conn, "l")
    assert sent() == {"account/login/cancel", %{"loginId" => "l"}}
    assert {:ok, %{}} = Account.logout(conn)
    assert sent() == {"account/logout", nil}
    assert {:ok, %{}} = Account.read(conn, refresh_token: true)
    assert sent() == {"account/read", %{"refreshToken" => true}}
    assert {:ok, %{}} = Account.read(conn)
    assert sent() == {"account/read", %{}}
    assert {:ok, %{}} = Account.rate_limits(conn)
    assert sent() == {"account/rateLimits/read", nil}
  end

  test "each function of V1 names its replacement", %{conn: conn} do
    for {name, arities} <- [
          new_conversation: 1..2,
          list_conversations: 1..2,
          resume_conversation: 1..2,
          send_user_message: 3..3,
          send_user_turn: 3..4,
          interrupt_conversation: 2..2,
          add_conversation_listener: 2..3,
          remove_conversation_listener: 2..2
        ],
        arity <- arities do
      args = [conn | List.duplicate("x", arity - 1)]
      assert {:error, {:unsupported, text}} = apply(V1, name, args)
      assert [_, function] = Regex.run(~r/use Codex.AppServer.(\w+)$/, text)
      assert Keyword.has_key?(Codex.AppServer.__info__(:functions), String.to_atom(function))
    end

    refute_received {:request, _, _, _}
  end
end
