# The settings of `mix credo`. They extend the default checks of credo 1.7.
%{
  configs: [
    %{
      name: "default",
      strict: true,
      files: %{
        included: [
          "lib/",
          "dev/",
          "dev_tasks/",
          "test/",
          "bench/",
          "examples/",
          "native/*.exs",
          "mix.exs",
          ".formatter.exs",
          ".credo.exs"
        ],
        # Recorded data of the CLI, and packages of Node.js.
        excluded: [~r"/test/fixtures/", ~r"/node_modules/"]
      },
      checks: [
        # Error codes of JSON-RPC (-32768 to -32000) are written as in its specification.
        {Credo.Check.Readability.LargeNumbers, [only_greater_than: 32_768]}
      ]
    }
  ]
}
