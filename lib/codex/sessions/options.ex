defmodule Codex.Sessions.Options do
  @moduledoc false
  # The options of the functions of `Codex.Sessions` that read a home or change it.

  alias Codex.OptionError
  alias Codex.Options.Schema
  alias Codex.Sessions.Filter

  @home {:codex_home, :os_path, "the home of the CLI", shown: "`CODEX_HOME`, else `~/.codex`"}

  @index {:index, :os_path,
          "a file in which sums of unchanged files are kept, so that the next call reads only " <>
            "files that changed. It must be outside the home, and is made if it is missing. The " <>
            "last page of up to 10000 sessions stays in memory, too", shown: "none"}

  @list Schema.new([
          @home,
          @index,
          {:limit, :positive, "the most sessions of a page", default: 100},
          {:after, :string, "continues after the page with this `next`"}
          | Filter.rows()
        ])
  @usage Schema.new([
           @home,
           @index,
           {:scope, {:one_of, [:turn, :thread, :tree, :store]},
            "the parts that the rows sum up: turns, threads, trees (a thread with its agents " <>
              "and reviews, and theirs) or all of it",
            shown: "`:store`, or `:thread` for one session"},
           {:by, {:one_of, [:day, :model, :cwd]}, "splits each row by day, model or directory"},
           {:prices, :map,
            "other prices: `%{\"model\" => {input, cached_input, output}}` in dollars per " <>
              "million tokens", shown: "`Codex.Sessions.Prices`"}
         ])
  @parts [:prompt, :answer, :command, :patch]
  @search Schema.new([
            @home,
            {:session, :any, "only this session", expected: "a session or text as for `find/2`"},
            {:parts, {:list, {:one_of, @parts}}, "only these parts",
             default: @parts, shown: "`[:prompt, :answer, :command, :patch]`"},
            {:context, :count, "characters before and after the match", default: 60}
          ])
  @read Schema.new([
          @home,
          {:images, {:one_of, [:skip, :bytes]},
           "`:bytes` for images of prompts with their `\"bytes\"`", default: :skip},
          {:inherited, :boolean,
           "whether turns of the thread that this one came from are among the turns",
           default: false}
        ])
  @tail Schema.new([
          @home,
          {:from, {:one_of, [:start, :end]},
           "`:start` for all events of the session, `:end` for new ones only", default: :end},
          {:poll_ms, :milliseconds, "the time between looks at the file, in milliseconds",
           default: 100},
          {:images, {:one_of, [:skip, :bytes]},
           "`:bytes` for images of prompts with their `\"bytes\"`", default: :skip}
        ])
  @move Schema.new([
          @home,
          {:referrers, :boolean,
           "looks for threads that refer to this one, which reads all files of the home",
           default: true}
        ])
  @delete Schema.new([
            @home,
            {:force, :boolean, "deletes a thread whose files hold the history of others",
             default: false}
          ])
  @append_history Schema.new([
                    @home,
                    {:session_id, :text, "the id of the thread", required: true},
                    {:time, :any, "the time", shown: "now", expected: "a `DateTime`"}
                  ])
  @export Schema.new([
            @home,
            {:format, {:one_of, [:markdown, :html, :json]}, "the kind of document",
             default: :markdown},
            {:to, :os_path, "the file that is written, with mode 0600", shown: "none"},
            {:images, {:one_of, [:skip, :bytes]}, "`:bytes` for pages with the images of prompts",
             default: :skip},
            {:max_text_bytes, :positive,
             "the length at which an output, diff or message is cut. JSON is whole",
             default: 65_536},
            {:redact, :any, "texts and regular expressions that are masked", default: []}
          ])

  @schemas %{
    home: Schema.new([@home]),
    list: @list,
    usage: @usage,
    search: @search,
    read: @read,
    tail: @tail,
    move: @move,
    delete: @delete,
    append_history: @append_history,
    export: @export
  }

  @typedoc "A set of options. `:home` is for functions whose only option is `:codex_home`."
  @type set ::
          :home
          | :list
          | :usage
          | :search
          | :read
          | :tail
          | :move
          | :delete
          | :append_history
          | :export

  @doc "Returns the list of a set for the docs of a function."
  @spec docs(set()) :: String.t()
  def docs(set), do: @schemas |> Map.fetch!(set) |> Schema.docs()

  @doc "Checks options, and returns those of the set with their defaults."
  @spec validate(set(), keyword() | map()) :: {:ok, map()} | {:error, OptionError.t()}
  def validate(set, opts), do: @schemas |> Map.fetch!(set) |> Schema.validate(opts)
end
