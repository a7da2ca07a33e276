# SPDX-License-Identifier: MIT
# Each kind of mistake in a description ends the build with the file and line of the mistake.
import unittest

from project import Project


class Grammar(Project):
    def bad_line(self, line, text, symbol="cuOther"):
        self.write(**{symbol: line})
        self.fails("one.spec", self.line_of(symbol), text)

    def test_unknown_class(self):
        self.bad_line("cuOther forwards", "unknown class 'forwards'")

    def test_no_class(self):
        self.bad_line("cuOther", "has no class")

    def test_unknown_rule(self):
        self.bad_line("cuOther forward list=array[count]", "unknown rule 'array[count]'")

    def test_rule_that_takes_no_count(self):
        self.bad_line("cuOther forward list=skip[count]", "unknown rule 'skip[count]'")

    def test_bad_count(self):
        self.bad_line("cuOther forward list=in[count/2]", "is not a count")
        self.bad_line("cuOther forward list=in[count*]", "is not a count")

    def test_unknown_flag(self):
        self.bad_line("cuOther forward quickly", "neither a flag nor a rule")

    def test_unsupported_without_reason(self):
        self.bad_line("cuOther unsupported", 'unsupported needs a "reason"')

    def test_legacy_needs_one_result(self):
        self.bad_line("cuOther legacy", "legacy takes one CUresult")
        self.bad_line("cuOther legacy INVALID_CONTEXT", "legacy takes one CUresult")
        self.bad_line("cuOther legacy CUDA_ERROR_INVALID_CONTEXT server", "legacy takes one CUresult")

    def test_what_must_be_given(self):
        self.bad_line("cuOther forward list=in[count] value=given[INVALID]", "given[INVALID] is no error")
        self.bad_line("cuOther local value=address", "cuOther sends nothing: rule 'address'")

    def test_null_of_an_alias(self):
        self.bad_line("cuMake_ptsz alias cuMake thread-default null=handle", "only null=context", symbol="cuMake_ptsz")

    def test_reason_without_end(self):
        self.write(cuOther='cuOther unsupported "never ends')
        self.fails("one.spec", 4, "does not end")

    def test_unknown_wire_type(self):
        self.bad_line("cuOther forward client list=skip +x:u128", "is not NAME:TYPE")

    def test_two_rules_for_a_parameter(self):
        self.bad_line("cuOther forward list=skip list=null", "has two rules")
        self.bad_line("cuOther forward list=skip,null", "one is enough")

    def test_effect_by_name(self):
        self.bad_line("cuOther forward list=skip effect=create", "only effect=none")

    def test_every_mistake_is_shown_at_once(self):
        self.write(cuOther="cuOther forwards", cuMake="cuMake sideways")
        done = self.fails("one.spec", self.line_of("cuOther"), "unknown class")
        self.assertIn("'sideways'", done.stderr)


class Symbols(Project):
    def test_symbol_without_entry(self):
        self.write(cuVoid=None)
        self.fails("", 0, "symbol 'cuVoid' has no entry")

    def test_entry_without_symbol(self):
        self.write(cuGhost="cuGhost forward")
        self.fails("one.spec", self.line_of("cuGhost"), "is no symbol of libcuda")

    def test_entry_twice(self):
        (self.spec / "two.spec").write_text("\ncuMake forward\n")
        self.fails("two.spec", 2, "is described twice")

    def test_symbol_without_prototype(self):
        with open(self.root / "symbols.txt", "a") as file:
            file.write("cuSecret\n")
        self.write(cuSecret='cuSecret unsupported "?"')
        self.fails("one.spec", self.line_of("cuSecret"), "has no prototype")

    def test_alias_of_nothing(self):
        self.write(cuMake_ptsz="cuMake_ptsz alias cuMade")
        self.fails("one.spec", self.line_of("cuMake_ptsz"), "has no entry of its own")

    def test_alias_of_other_types(self):
        self.write(cuMake_ptsz="cuMake_ptsz alias cuOther")
        self.fails("one.spec", self.line_of("cuMake_ptsz"), "takes other types")

    def test_internal_must_not_be_a_symbol(self):
        self.write(cuVoid="cuVoid internal +a:u64")
        self.fails("one.spec", self.line_of("cuVoid"), "not internal")

    def test_families_of_the_build(self):
        self.numbers()
        self.fails("", 0, "families of the build differ", "--families", "one,two")
        self.succeeds("--families", "one")


class Parameters(Project):
    def bad(self, line, text, symbol):
        self.write(**{symbol: line})
        self.fails("one.spec", self.line_of(symbol), text)

    def test_wrong_parameter_name(self):
        self.bad("cuOther forward liste=in[count]", "has no parameter 'liste'", "cuOther")

    def test_wrong_name_in_count(self):
        self.bad("cuOther forward list=in[counts]", "has no parameter 'counts'", "cuOther")

    def test_count_that_does_not_cross(self):
        self.bad("cuOther forward list=in[event]", "is no count that crosses", "cuOther")

    def test_pointer_without_derivable_rule(self):
        self.bad("cuOther forward", "parameter 'list' of type const unsigned int * needs a rule", "cuOther")
        self.bad("cuVoid forward callback=null", "parameter 'data' of type void * needs a rule", "cuVoid")

    def test_callback_without_rule(self):
        self.bad("cuVoid forward data=skip", "parameter 'callback' of type CUcallback needs a rule", "cuVoid")

    def test_struct_with_pointer(self):
        self.bad("cuDeep forward", "CUdeep holds a pointer or handle (hidden)", "cuDeep")

    def test_struct_with_pointer_deep_inside(self):
        self.bad("cuDeeper forward deeper=inout", "(nested.inner[].hidden)", "cuDeeper")

    def test_struct_with_handle(self):
        self.bad("cuWithHandle forward", "(event)", "cuWithHandle")

    def test_handle_type_without_entry(self):
        (self.spec / "handles.spec").write_text("2 CUfunction Function\n3 CUkernel Kernel\n4 CUstream Stream\n")
        self.fails("one.spec", self.line_of("cuOther"), "parameter 'event' of type CUevent needs a rule")

    def test_struct_rules(self):
        self.write(cuDeep="cuDeep forward")
        structs = self.spec / "structs.spec"
        structs.write_text("\nCUdeep hiden=null\n")
        self.fails("structs.spec", 2, "CUdeep has no member 'hiden'")
        structs.write_text("CUdeep a=plain\n")
        self.fails("structs.spec", 1, "CUdeep.hidden holds a pointer")
        structs.write_text("CUdeep hidden=in[a]\n")
        self.fails("structs.spec", 1, "a member can be")
        structs.write_text("CUdeep hidden=null\n")
        self.numbers()
        self.succeeds()

    def test_rules_that_do_not_fit(self):
        self.bad("cuOther forward list=out[count]", "points at const", "cuOther")
        self.bad("cuOther forward list=in[count] value=del", "does not fit 'value'", "cuOther")
        self.bad("cuOther forward list=in[count] value=opt", "it cannot be NULL", "cuOther")
        self.bad("cuOther forward list=in[count] value=function_or_kernel", "is no CUfunction", "cuOther")
        self.bad("cuOther forward list=cstr", "is no const char*", "cuOther")

    def test_posted_call_with_result(self):
        self.bad("cuMake post", "brings nothing back", "cuMake")

    def test_fields_without_hand_written_client(self):
        self.bad("cuMake forward +x:u64", "hand-written client", "cuMake")

    def test_two_fields_of_one_name(self):
        self.bad("cuMake forward client +flags:u64", "two fields are named 'flags'", "cuMake")

    def test_effects(self):
        self.bad("cuOther forward list=in[count] state(list)", "is no number that crosses", "cuOther")
        self.bad("cuOther forward list=in[count] state(event,value,count)", "at most two keys", "cuOther")
        self.bad("cuMake forward owner=flags", "is no handle that crosses", "cuMake")

    def test_on_stream_of_another_call(self):
        self.bad("cuMake forward on-stream=cuOther", "not the same call with a stream", "cuMake")


class Versions(Project):
    def test_more_symbols_than_versions(self):
        text = (self.root / "cudaTypedefs.h").read_text()
        (self.root / "cudaTypedefs.h").write_text(text.replace("cuVoid_v2000", "cuVoyd_v2000"))
        self.fails("versions.spec", 0, "cuVoid: 0 versions")

    def test_types_that_differ(self):
        text = (self.root / "cudaTypedefs.h").read_text()
        (self.root / "cudaTypedefs.h").write_text(text.replace("CUwithHandle value", "int value"))
        self.fails("versions.spec", 0, "PFN_cuWithHandle_v2000 takes other types")

    def test_override_of_nothing(self):
        (self.spec / "versions.spec").write_text("# first\ncuMake@12000 cuMade\n")
        self.fails("versions.spec", 2, "is no symbol of libcuda")
        (self.spec / "versions.spec").write_text("cuMake 12000 cuMake\n")
        self.fails("versions.spec", 1, "a version is")


class Handles(Project):
    def test_number_twice(self):
        (self.spec / "handles.spec").write_text("1 CUevent Event\n1 CUfunction Function\n")
        self.fails("handles.spec", 2, "is taken")

    def test_no_number(self):
        (self.spec / "handles.spec").write_text("CUevent Event\n")
        self.fails("handles.spec", 1, "a handle is")


if __name__ == "__main__":
    unittest.main()
