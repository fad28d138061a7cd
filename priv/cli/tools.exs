# The names of all tools that the CLI can offer to a model, and the namespaces of these tools. The
# CLI accepts a host tool of such a name without an error, and calls its own tool instead.
# `Codex.Tools.Reserved` reads this file.
%{
  names: ~w(
    apply_patch close_agent create_goal curr_time exec exec_command followup_task get_goal
    interrupt_agent list_agents list_mcp_resource_templates list_mcp_resources
    read_mcp_resource request_permissions request_user_input request_user_input_async
    resume_agent send_input send_message sleep spawn_agent tool_search update_goal update_plan
    view_image wait wait_agent web_search write_stdin
  ),
  namespaces: ~w(clock collaboration functions multi_agent_v1)
}
