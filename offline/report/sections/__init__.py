"""The parts of the page, one file each: sentences, tables and figures; HTML is the template's."""
