defmodule Codex.InputTest do
  # Input besides text, with the real server.
  use ExUnit.Case, async: true

  import Codex.Connected
  import Codex.Test.Steps

  alias Codex.{AppServer, Input, Test, Thread}

  doctest Codex.Input
  doctest Codex.AppServer.Skills

  @png "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

  defp start(script) do
    model = Test.start!(script)
    conn = connect!(model)
    {model, conn, thread!(model, conn)}
  end

  # The model's last input, as text.
  defp told(model) do
    %{body: %{"input" => input}} = model |> Test.requests() |> List.last()
    inspect(input, limit: :infinity, printable_limit: :infinity)
  end

  defp skill!(model, name, text) do
    path = Path.join(model.workspace, ".agents/skills/#{name}/SKILL.md")
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
    path
  end

  describe "over an app-server" do
    @describetag :codex_cli

    test "pictures are shown, by URL and from files" do
      {model, _conn, thread} = start(["One.", "Two."])
      data = "data:image/png;base64," <> @png
      {:ok, _} = Thread.run(thread, ["Look", Input.image(data)])
      assert told(model) =~ "input_image"

      path = Path.join(model.workspace, "a.png")
      File.write!(path, Base.decode64!(@png))
      {:ok, _} = Thread.run(thread, [Input.text("Look"), Input.local_image(path)])
      assert told(model) =~ "input_image"

      assert Thread.run(thread, [Input.local_image("/no/such.png")]) ==
               {:error, {:image_not_found, "/no/such.png"}}
    end

    test "skills are read to the model; what the server would leave out is an error" do
      {model, conn, thread} = start(["One.", "Two."])
      good = skill!(model, "good", "---\nname: good\ndescription: good\n---\nDo good.\n")
      bad = skill!(model, "bad", "no front matter\n")

      {:ok, %{"data" => [found]}} = AppServer.skills_list(conn, cwds: [model.workspace])
      assert Enum.any?(found["skills"], &(&1["path"] == good))
      assert [%{"path" => ^bad, "message" => why}] = found["errors"]

      {:ok, _} = Thread.run(thread, ["Go", Input.skill("good", good)])
      assert told(model) =~ "Do good."

      for {path, words} <- [{bad, why}, {"/no/such/SKILL.md", "there is no skill"}] do
        assert {:error, {:exec_failed, %{kind: :invalid_request, message: message}}} =
                 Thread.run(thread, ["Go", Input.skill("x", path)])

        assert message =~ path and message =~ words
      end

      {:ok, _} = AppServer.skills_config_write(conn, path: good, enabled: false)

      assert {:error, {:exec_failed, %{message: message}}} =
               Thread.run(thread, ["Go", Input.skill("good", good)])

      assert message =~ "is disabled"
    end

    test "skills of a steer are looked at, too" do
      {model, _conn, thread} = start([silence(:infinity)])
      task = Task.async(fn -> Thread.run(thread, "Go") end)
      assert Codex.Stub.eventually(fn -> length(Test.requests(model)) == 1 end)
      [id] = thread.transport |> elem(1) |> Codex.Threads.list() |> Enum.map(& &1["id"])
      thread = %{thread | thread_id: id}

      assert {:error, {:invalid_input, text}} =
               Thread.steer(thread, ["And", Input.skill("x", "/no/such/SKILL.md")])

      assert text =~ "there is no skill /no/such/SKILL.md"
      assert Thread.interrupt(thread) == :ok
      assert {:error, {:exec_failed, %{kind: :interrupted}}} = Task.await(task, 10_000)
    end

    test "something is mentioned" do
      {model, _conn, thread} = start(["One."])
      {:ok, _} = Thread.run(thread, ["When?", Input.mention("calendar", "app://calendar")])
      assert told(model) =~ "When?"
    end

    test "characters are counted, not bytes, and those of all texts" do
      {model, _conn, thread} = start(["One."])
      half = String.duplicate("é", 524_288)
      {:ok, _} = Thread.run(thread, [half, half])
      assert length(Test.requests(model)) == 1

      assert Thread.run(thread, [half, half, "x"]) ==
               {:error, {:input_too_large, 1_048_577, 1_048_576}}
    end
  end

  test "on codex exec is text and local images" do
    {:ok, thread} = Codex.start_thread([codex_path: "/bin/true"], %{})

    for block <- [Input.image("https://x"), Input.skill("a", "/b"), Input.mention("a", "b")],
        do: assert(Thread.run(thread, ["Go", block]) == {:error, {:unsupported_input, :exec}})

    half = String.duplicate("é", 524_288)

    assert {:error, {:input_too_large, _, 1_048_576}} = Thread.run(thread, [half, half, "x"])
  end
end
