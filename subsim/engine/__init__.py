"""From a pure run(key, hyper) to thousands of seeds and a labelled data set; knows no theorem and no data."""
